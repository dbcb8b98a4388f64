"""What the tests share: the runs, the command in this process, a reader of safetensors."""

import contextlib
import io
import json
import pickle
import struct
import tempfile
import unittest
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from df_export import __main__ as command
from df_export import checkpoint

CHECKPOINTS = Path(__file__).parent / "checkpoints"
VECTOR_RUNS = ("planning_paper", "prediction_paper", "planning_main")
VIDEO_RUNS = ("video_paper", "video_main")
# What the tensors do not tell, for each run.
SIZES = {
    "planning_paper": {
        "diffusion": {"objective": "x0"},
        "tokens": {"frame_stack": 4, "fields": [{"name": n} for n in ("x", "y", "vx", "vy", "ax", "ay")]},
    },
    "prediction_paper": {"diffusion": {"objective": "v"}},
    "planning_main": {
        "denoiser": {"heads": 4, "window": 9, "causal": False},
        "diffusion": {"objective": "x0"},
        "tokens": {"frame_stack": 5, "fields": [{"name": "x"}, {"name": "y"}]},
    },
}
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "<i1", "I64": "<i8"}


def run_file(run: str) -> Path:
    return next((CHECKPOINTS / run / "checkpoints").glob("*.ckpt"))


def state_of(run: str) -> dict[str, torch.Tensor]:
    """The run's state_dict."""
    return {name: t.read() for name, t in checkpoint.read(run_file(run)).tensors.items()}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = np.frombuffer(data[8 + length + begin : 8 + length + end], DTYPES[entry["dtype"]])
        tensors[name] = raw.reshape(entry["shape"])
    return tensors, metadata


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """float32, as a reader of the model file gets them."""
    tensors, _ = read_safetensors(folder / "model.safetensors")
    return {
        name: t.astype(np.float32) * (tensors[name + ".scale"][:, None] if t.dtype == np.int8 else 1)
        for name, t in tensors.items()
        if not name.endswith(".scale")
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def archive(path: Path, pickled: bytes, storages: Mapping[str, bytes] = {}) -> Path:
    """A file as torch.save makes them, with this pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, data in storages.items():
            file.writestr(f"archive/data/{key}", data)
        file.writestr("archive/version", "3\n")
    return path


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out"

    def command(self, *arguments: object) -> tuple[int, str]:
        """Exit status and what went to standard error."""
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                command.main([str(argument) for argument in arguments])
            except SystemExit as leave:
                return leave.code, errors.getvalue()
        return 0, errors.getvalue()

    def export(self, *arguments: object) -> dict:
        """The config of an export that has to succeed."""
        self.assertEqual(self.command(*arguments), (0, ""))
        return json.loads((Path(str(arguments[1])) / "config.json").read_text())

    def assert_refused(self, words: str, *arguments: object) -> None:
        """One line on standard error with these words, status 1, and nothing left behind."""
        before = sorted(self.folder.rglob("*"))
        status, errors = self.command(*arguments)
        self.assertEqual(status, 1, errors)
        self.assertRegex(errors, r"\Adf_export: [^\n]+\n\Z")
        self.assertIn(words, errors)
        self.assertEqual(sorted(self.folder.rglob("*")), before)

    def assert_close(self, found, expected: np.ndarray, numerics: list[float], name: str) -> None:
        """Within the tolerance of the expected numbers."""
        found = np.asarray(found)
        self.assertEqual(found.shape, expected.shape, name)
        largest, noise = numerics
        difference = float(np.abs(found - expected).max())
        self.assertLessEqual(difference, 20 * noise + 1e-6 * largest, name)


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)
