"""From a checkpoint, a state_dict or a module to a folder that the library reads."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from . import card, checkpoint, config as configs, hydra, official, reference, state, write
from .checkpoint import Checkpoint
from .errors import ExportError, about


def export(
    source: str | Path | torch.nn.Module | Mapping[str, torch.Tensor],
    config: str | Path | Mapping | None,
    out: str | Path,
    *,
    weights: str = "f32",
    name: str | None = None,
    license: str | None = None,
    force: bool = False,
    rename: Callable[[str], str] | None = None,
) -> dict:
    """Writes model.safetensors, config.json, README.md and reference.safetensors into the folder out.

    source: the path of a checkpoint; or a state_dict; or a module, which is also run for the reference
    if its forward has the signature of one of the networks in df_export/networks.py.
    config: an object like config.json, or the path of one, or that of a hydra configuration of the
    official code. What the tensors tell may be left out. None: the run's own, beside the checkpoint.
    weights: f32, f16 or int8. name: of the model. license: of the weights, in a phrase. force: out may
    hold an earlier export.
    rename: makes the library's names of tensors from those of the source.

    Returns the config that was written. Raises ExportError, and then leaves nothing behind.
    """
    if weights not in write.FORMATS:
        raise ExportError(f"weights: expected one of {', '.join(write.FORMATS)}, found {weights!r}")
    out = Path(out).resolve()
    with about(out):
        write.check_folder(out, force)
    path = Path(source) if isinstance(source, (str, Path)) else None
    module = source if isinstance(source, torch.nn.Module) else None
    subject = path or ("the module" if module is not None else "the state_dict")
    with about(subject):
        read = checkpoint.read(path) if path else from_memory(source)
        own_names = {plain: original for original, plain in renamed(read, rename).items()}
        parts = state.split(read.tensors)
        told = configs.network(parts)
        place, given, notes = describe(parts, config, path, read)
    if license is not None:
        given = {**given, "license": license}
    with about(place):
        full = configs.complete(given, told, parts, name or given.get("name") or out.name)
    with about(subject):
        stored, rounded = write.store(parts.weights, weights)
        own = None
        if module is not None and reference.is_runnable(module, full["denoiser"]["kind"]):
            names = {plain: own_names[in_state] for plain, in_state in parts.names.items()}
            own = reference.load_into(module, names)
        tensors, metadata = reference.make(full, parts.weights, rounded, weights, own)
    text = as_json(full)
    files = {
        "model.safetensors": write.safetensors(stored, {"config": text, "format": "pt"}),
        "config.json": text.encode(),
        "reference.safetensors": write.safetensors(tensors, metadata),
        "README.md": card.text(full, parts, read, weights, notes).encode(),
    }
    with about(out):
        write.folder(out, files, force)
    return full


def as_json(config: Mapping) -> str:
    try:
        return json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:  # in the parts that are only for people
        raise ExportError(f"config: cannot be written as JSON: {error}") from error


def from_memory(source: torch.nn.Module | Mapping[str, torch.Tensor]) -> Checkpoint:
    if isinstance(source, torch.nn.Module):
        return checkpoint.clean(dict(source.state_dict()), "a PyTorch module")
    if not isinstance(source, Mapping):
        raise ExportError(
            f"expected a path, a module or a state_dict, found {type(source).__name__}"
        )
    return checkpoint.clean(dict(source), "a state_dict")


def renamed(read: Checkpoint, rename: Callable[[str], str] | None) -> dict[str, str]:
    """Renames the tensors; returns the name in the source -> the name now."""
    names = {original: rename(plain) if rename else plain for plain, original in read.names.items()}
    if len(set(names.values())) < len(names):
        raise ExportError("rename: two tensors get the same name")
    read.tensors = {names[read.names[plain]]: tensor for plain, tensor in read.tensors.items()}
    return names


def describe(parts, config, path, read) -> tuple[str, Mapping, list[str]]:
    """Where the configuration is from, what it says (as config.json does), and notes for the card."""
    if config is None and path is not None:
        config = hydra.beside(path)
        if config is None:
            raise ExportError(
                "no configuration: give --config with the run's .hydra/config.yaml, or a JSON of sizes"
            )
    if config is None:
        return "config", {}, []
    if isinstance(config, Mapping):
        return "config", config, []
    config = Path(config)
    if config.suffix.lower() == ".json":
        return str(config), configs.read(config), []
    yaml = hydra.read(config)
    folder = config.resolve().parent
    run = official.Run(yaml, parts, folder.parent if folder.name == ".hydra" else None, read.facts)
    with about(config):
        given = run.config()
        if yaml.get("name", None) is not None:
            given["name"] = str(yaml.get("name"))
    return str(config), given, run.notes
