"""The file of torch.save: a zip archive with a pickle and one entry for each storage."""

import functools
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import unpickle
from .errors import ExportError
from .names import Tensor

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files from before PyTorch 1.6 begin
# Networks that only measure quality during training.
METRICS = ("validation_fid_model.", "validation_lpips_model.")
COMPILED = "_orig_mod."  # torch.compile puts it into names


class Archive:
    """The entries of the zip archive, which torch.save stores uncompressed in one folder."""

    def __init__(self, path: Path):
        with open(path, "rb") as file:
            head = file.read(len(LEGACY))
        if head == LEGACY:
            raise ExportError(
                "written by torch.save in its form from before PyTorch 1.6, which is not read: load "
                "it in PyTorch and save it again"
            )
        if not head.startswith(b"PK\x03\x04"):
            raise ExportError("expected a file of torch.save (a zip archive), found something else")
        self.zip = self._try("its zip directory cannot be read", zipfile.ZipFile, path)
        self.entries = {entry.filename: entry for entry in self.zip.infolist()}
        pickles = [name for name in self.entries if ("/" + name).endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ExportError(f"expected one data.pkl in the archive, found {len(pickles)}")
        self.folder = pickles[0].removesuffix("data.pkl")
        stored = sum(entry.compress_size for entry in self.entries.values())
        if stored > path.stat().st_size:
            raise ExportError("damaged: its entries have more bytes than the file")
        byteorder = self.folder + "byteorder"
        if byteorder in self.entries and self.read("byteorder") != b"little":
            raise ExportError("its numbers are big-endian, expected little-endian")

    @staticmethod
    def _try(failure, function, *arguments):
        # zipfile raises errors of a dozen kinds for damaged files.
        try:
            return function(*arguments)
        except OSError:
            raise
        except Exception as error:
            raise ExportError(f"the file is cut off or damaged: {failure}") from error

    def size(self, name: str) -> int:
        entry = self.entries.get(self.folder + name)
        if entry is None:
            raise ExportError(f"the archive has no entry {name}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ExportError(f"entry {name} is compressed, which torch.save never does")
        return entry.file_size

    def read(self, name: str) -> bytes:
        size = self.size(name)
        data = self._try(f"entry {name} cannot be read", self.zip.read, self.folder + name)
        if len(data) != size:
            raise ExportError(f"the file is cut off or damaged: entry {name} ends early")
        return data


@dataclass
class Checkpoint:
    """A state_dict and what stood beside it."""

    tensors: dict[str, Tensor | torch.Tensor]
    form: str  # in words
    facts: dict[str, object] = field(default_factory=dict)  # epoch, global_step
    ignored: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of a tensor -> its name in the source


def read(path: Path) -> Checkpoint:
    """A Lightning checkpoint or a bare state_dict. Only what is asked for later is read whole."""
    archive = Archive(path)
    storage = functools.lru_cache(maxsize=1)(lambda key: archive.read("data/" + key))
    content = unpickle.load(
        archive.read("data.pkl"), lambda key: archive.size("data/" + key), storage
    )
    if not isinstance(content, dict):
        raise ExportError("expected a dict in the file, found something else")
    if not isinstance(content.get("state_dict"), dict):
        return clean(content, "a bare state_dict")
    facts = {
        key: content[key]
        for key in ("epoch", "global_step", "pytorch-lightning_version")
        if type(content.get(key)) in (int, str)
    }
    form = "a Lightning checkpoint" if "pytorch-lightning_version" in facts else "a checkpoint"
    return clean(content["state_dict"], form, facts)


def clean(state: dict, form: str, facts: dict | None = None) -> Checkpoint:
    """Takes `_orig_mod.` out of the names and the metric networks out of the state_dict."""
    checkpoint = Checkpoint({}, form, facts or {})
    for name, tensor in state.items():
        if type(name) is not str or not isinstance(tensor, (Tensor, torch.Tensor)):
            raise ExportError(
                f"expected a Lightning checkpoint or a state_dict (names and tensors), found an "
                f"entry {name!r} that is no tensor"
            )
        plain = name.replace(COMPILED, "")
        metric = next((prefix for prefix in METRICS if plain.startswith(prefix)), None)
        if metric:
            if metric + "*" not in checkpoint.ignored:
                checkpoint.ignored.append(metric + "*")
        elif plain in checkpoint.tensors:
            raise ExportError(f"tensor {plain} is there twice, with and without {COMPILED}")
        else:
            checkpoint.tensors[plain] = tensor
            checkpoint.names[plain] = name
    if not checkpoint.tensors:
        raise ExportError("the state_dict is empty")
    return checkpoint
