"""Weight formats, safetensors files, and a folder that is there as a whole or not at all."""

import json
import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .errors import ExportError

Arrays = dict[str, np.ndarray]
FORMATS = ("f32", "f16", "int8")
INT8_LEAST = 16384  # smaller matrices stay float32
DTYPES = {"float32": "F32", "float16": "F16", "int8": "I8", "int64": "I64"}


def store(weights: Arrays, form: str) -> tuple[Arrays, Arrays]:
    """The tensors of the file, and the float32 weights that a reader gets from them."""
    tensors: Arrays = {}
    read: Arrays = {}
    for name, weight in weights.items():
        tensors[name] = read[name] = weight
        if form == "f16":
            with np.errstate(over="ignore"):
                half = weight.astype(np.float16)
            if not np.isfinite(half).all():
                largest = float(np.abs(weight).max())
                raise ExportError(f"tensor {name}: {largest:g} is too large for f16")
            tensors[name], read[name] = half, half.astype(np.float32)
        elif form == "int8" and weight.ndim == 2 and weight.size >= INT8_LEAST:
            q, scale = whole_numbers(weight)
            tensors |= {name: q, f"{name}.scale": scale}
            read[name] = q.astype(np.float32) * scale[:, None]
    return tensors, read


def whole_numbers(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as whole numbers from -127 to 127 times a scale each."""
    scale = np.abs(weight).max(1) / np.float32(127)
    divisor = np.where(scale > 0, scale, np.float32(1))[:, None]
    q = np.clip(np.rint(weight / divisor), -127, 127)
    return np.where(scale[:, None] > 0, q, 0).astype(np.int8), scale


def safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Header length, header (padded to 8 bytes), data; the widest types first, so that all are aligned."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    for name, array in sorted(tensors.items(), key=lambda item: -item[1].itemsize):
        little = array.astype(array.dtype.newbyteorder("<"))
        parts.append(np.ascontiguousarray(little).tobytes())
        header[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [end, end + len(parts[-1])],
        }
        end += len(parts[-1])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def check_folder(out: Path, force: bool) -> None:
    """Fails early where `folder` would fail late."""
    if not out.parent.is_dir():
        raise ExportError("expected a folder to make it in, found none")
    if out.exists() and not out.is_dir():
        raise ExportError("expected a folder, found a file")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ExportError("the folder is not empty (--force replaces the files of an export in it)")


def folder(out: Path, files: Mapping[str, bytes], force: bool = False) -> None:
    """Writes all files or none. Other files in a folder that is there already stay."""
    check_folder(out, force)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, data in files.items():
            (made / name).write_bytes(data)
        if out.is_dir():
            for name in files:
                (made / name).replace(out / name)
        else:
            made.chmod(0o755)
            made.rename(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
