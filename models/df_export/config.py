"""config.json: what the user or the run's configuration says, completed by what the tensors tell.

Whatever is told twice has to agree.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from . import networks, noise, sizes
from .errors import ExportError, about
from .state import State

FORMAT = "diffusion-forcing/1"
KEYS = {
    "": "format name description license denoiser diffusion tokens observation condition sampling view "
    "training",
    "diffusion": "levels objective schedule clip_noise",
    "tokens": "frame_stack present fields",
    "observation": "fields",
    "condition": "fields",
    "sampling": "schedule steps uncertainty eta stabilization grid fitted_grid max_tokens",
}
FIELD = "name mean std step binary threshold"
REQUIRED = object()
LARGEST = {"rnn": 1 << 16, "transformer": 1 << 14}  # of any size, as the library has it


def read(path: Path) -> dict:
    """The JSON of sizes."""
    with about(path):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ExportError(f"not JSON: {error}") from error
        if not isinstance(config, dict):
            raise ExportError("expected an object")
    return config


def network(state: State) -> dict:
    """The sizes that the tensors tell. All tensors of such a network are there, and no others."""
    told = sizes.of(state.shapes)
    largest = LARGEST[told["kind"]]
    for key, value in told.items():
        if type(value) is int and value > largest:
            raise ExportError(f"{key}: expected at most {largest}, found {value}")
    # How many heads there are, and what they see, changes no shape.
    sizes.check(state.shapes, networks.shapes({"heads": 1, "causal": False, **told}))
    return told


def complete(given: Mapping, told: Mapping, state: State, name: str) -> dict:
    """A config that describes the network in full. given: what the tensors cannot tell; told: `network`."""
    only(given, "")
    if given.get("format", FORMAT) != FORMAT:
        raise ExportError(f"format: expected {FORMAT!r}, found {given['format']!r}")
    denoiser = complete_denoiser(section(given, "denoiser"), told)
    diffusion = complete_diffusion(section(given, "diffusion"), state)
    config = {"format": FORMAT, "name": name}
    config |= {key: given[key] for key in ("description", "license") if key in given}
    for key, value in config.items():
        if not isinstance(value, str):
            raise ExportError(f"{key}: expected text, found {value!r}")
    config |= {"denoiser": denoiser, "diffusion": diffusion}
    config["tokens"] = complete_tokens(section(given, "tokens"), denoiser["token_size"], state)
    if denoiser.get("observation_size") and "observation" in given:
        fields = read_fields(section(given, "observation"), "observation")
        agree("observation.fields", len(fields), denoiser["observation_size"])
        config["observation"] = {"fields": fields}
    elif "observation" in given:
        raise ExportError("observation: expected none, as the network has no init_encoder")
    condition = complete_condition(
        given, denoiser["condition_size"], config["tokens"]["frame_stack"]
    )
    if condition:
        config["condition"] = {"fields": condition}
    config["sampling"] = complete_sampling(section(given, "sampling"), denoiser, diffusion)
    config |= {key: dict(section(given, key)) for key in ("view", "training") if key in given}
    return config


# ---- Reading ----------------------------------------------------------------------------------------


def section(given: Mapping, key: str) -> Mapping:
    value = given.get(key, {})
    if not isinstance(value, Mapping):
        raise ExportError(f"{key}: expected an object, found {value!r}")
    if key in KEYS:
        only(value, key)
    return value


def only(value: Mapping, key: str, known: str | None = None) -> None:
    names = (KEYS[key] if known is None else known).split()
    for name in value:
        if name not in names:
            place = f"{key}.{name}" if key else name
            raise ExportError(f"{place}: no such key, expected {', '.join(names)}")


def number(value: Mapping, place: str, low: float, high: float, default=REQUIRED, whole=True):
    """The number at the last part of the place, such as diffusion.levels."""
    found = value.get(place.rpartition(".")[2], default)
    if found is REQUIRED:
        raise ExportError(f"{place} is missing, and the tensors do not tell it")
    right = type(found) is int or (type(found) is float and math.isfinite(found))
    if not right or not low <= found <= high or (whole and found != int(found)):
        what = "whole number" if whole else "number"
        raise ExportError(f"{place}: expected a {what} from {low:g} to {high:g}, found {found!r}")
    return int(found) if found == int(found) else found


def choice(value: Mapping, place: str, choices: tuple, default=REQUIRED):
    found = value.get(place.rpartition(".")[2], default)
    if found is REQUIRED:
        raise ExportError(f"{place} is missing, and the tensors do not tell it")
    if not any(found is c or (type(found) is type(c) and found == c) for c in choices):
        names = ", ".join(map(str, choices)).replace("True", "true").replace("False", "false")
        raise ExportError(f"{place}: expected one of {names}, found {found!r}")
    return found


def agree(place: str, given: object, told: object, by: str = "the tensors have") -> None:
    if isinstance(given, bool) != isinstance(told, bool) or given != told:
        raise ExportError(f"{place}: the configuration says {given!r}, {by} {told!r}")


# ---- The parts --------------------------------------------------------------------------------------


def complete_denoiser(given: Mapping, told: Mapping) -> dict:
    known = {*told, "observation_size"}
    if told["kind"] == "transformer":
        known |= {"heads", "window", "causal"}
    only(given, "denoiser", " ".join(sorted(known)))
    for key, value in given.items():
        if key in known - {"heads", "window", "causal"}:
            agree(f"denoiser.{key}", value, told.get(key, 0))
    if told["kind"] == "rnn":
        return dict(told)
    width = told["network_size"]
    heads = number(given, "denoiser.heads", 1, width)
    if width % heads:
        raise ExportError(f"denoiser.heads: expected a divisor of the width {width}, found {heads}")
    return {
        **told,
        "heads": heads,
        "window": number(given, "denoiser.window", 1, LARGEST["transformer"]),
        "causal": choice(given, "denoiser.causal", (True, False)),
    }


def complete_diffusion(given: Mapping, state: State) -> dict:
    tables = state.tables
    if tables:
        given = {"levels": max(table.size for table in tables.values()), **given}
    levels = number(given, "diffusion.levels", 1, 100000)
    for table in tables.values():
        agree("diffusion.levels", levels, table.size, "the noise tables have")
    schedules = [name for name in noise.SCHEDULES if noise.matches(name, levels, tables)]
    if not schedules:
        raise ExportError(
            "the noise tables are those of no schedule that is supported: linear, cosine and sigmoid "
            "with their usual arguments"
        )
    if tables:
        given = {"schedule": schedules[0], **given}
    schedule = choice(given, "diffusion.schedule", noise.SCHEDULES)
    if schedule not in schedules:
        agree("diffusion.schedule", schedule, schedules[0], "the noise tables are those of")
    if schedule == "linear" and levels <= 20:
        raise ExportError(
            f"diffusion.levels: the linear schedule needs more than 20, found {levels}"
        )
    return {
        "levels": levels,
        "objective": choice(given, "diffusion.objective", ("x0", "eps", "v")),
        "schedule": schedule,
        "clip_noise": number(given, "diffusion.clip_noise", 0.1, 1e6, 20, whole=False),
    }


def tidy(value: float) -> float:
    """The shortest decimal that is this float32."""
    value = float(str(np.float32(value)))
    return int(value) if value == int(value) else value


def read_fields(given: Mapping, place: str) -> list[dict]:
    fields = given.get("fields")
    if not isinstance(fields, list) or not 1 <= len(fields) <= 4096:
        raise ExportError(f"{place}.fields: expected an array of 1 to 4096 objects")
    for i, item in enumerate(fields):
        where = f"{place}.fields[{i}]"
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise ExportError(f"{where}: expected an object with a name, found {item!r}")
        only(item, where, FIELD if place == "tokens" else "name mean std")
        number(item, where + ".mean", -1e30, 1e30, 0, whole=False)
        number(item, where + ".std", 1e-30, 1e30, 1, whole=False)
        number(item, where + ".step", 0, 1e30, 0, whole=False)
        number(item, where + ".threshold", -1e30, 1e30, 0.5, whole=False)
        choice(item, where + ".binary", (True, False), False)
    return [dict(item) for item in fields]


def frame_size(token_size: int, given: Mapping) -> tuple[int, bool, int]:
    """Frames in a token, is there a field `present`, and fields of a frame without it."""
    stack = number(given, "tokens.frame_stack", 1, 4096, 1)
    present = choice(given, "tokens.present", (True, False), False)
    if token_size % stack or token_size // stack <= present:
        raise ExportError(
            f"tokens.frame_stack: a token of {token_size} entries cannot be cut into {stack} frames"
        )
    return stack, present, token_size // stack - present


def complete_tokens(given: Mapping, token_size: int, state: State) -> dict:
    stack, present, C = frame_size(token_size, given)
    if "fields" not in given:
        given = {"fields": [{"name": f"field_{i + 1}"} for i in range(C)]}
    fields = read_fields(given, "tokens")
    agree(
        "tokens.fields",
        len(fields),
        C,
        f"a token of {token_size} entries and {stack} frames leaves",
    )
    for key, buffer in (("mean", state.mean), ("std", state.std)):
        if buffer is None:
            continue
        if buffer.ndim > 1 or buffer.size not in (1, C):
            raise ExportError(f"data_{key}: expected shape [{C}], found {list(buffer.shape)}")
        for field, value in zip(fields, np.broadcast_to(buffer, C)):
            place = f"tokens.fields: {key} of {field['name']}"
            if key in field and not np.isclose(field[key], value, rtol=1e-5, atol=1e-30):
                agree(place, field[key], tidy(value), f"data_{key} in the state_dict says")
            field[key] = tidy(value)
    return {
        "frame_stack": stack,
        "present": present,
        "fields": read_fields({"fields": fields}, "tokens"),
    }


def complete_condition(given: Mapping, size: int, stack: int) -> list[str]:
    if size % stack:
        raise ExportError(f"a condition of {size} entries cannot be cut into {stack} frames")
    names = section(given, "condition").get(
        "fields", [f"condition_{i + 1}" for i in range(size // stack)]
    )
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ExportError("condition.fields: expected an array of names")
    agree("condition.fields", len(names), size // stack, "the tensors leave for a frame")
    return names


def complete_grid(given: Mapping, levels: int) -> dict:
    kind = choice(given, "sampling.grid", ("uniform", "quadratic", "fitted"), "uniform")
    fitted = given.get("fitted_grid")
    if kind == "fitted" or "fitted_grid" in given:
        right = isinstance(fitted, list) and 2 <= len(fitted) <= 1025
        right = right and all(type(level) in (int, float) for level in fitted)
        right = right and all(low < high for low, high in zip(fitted, fitted[1:]))
        if not right or fitted[0] != 0 or fitted[-1] != levels:
            raise ExportError(f"sampling.fitted_grid: expected rising levels from 0 to {levels}")
    return {key: given[key] for key in ("grid", "fitted_grid") if key in given}


def complete_sampling(given: Mapping, denoiser: Mapping, diffusion: Mapping) -> dict:
    schedules = ("pyramid", "autoregressive", "full-sequence", "trapezoid")
    levels = diffusion["levels"]
    window = denoiser.get("window")
    steps = number(given, "sampling.steps", 1, levels, min(50, levels))
    sampling = {
        "schedule": choice(given, "sampling.schedule", schedules, "pyramid"),
        "steps": steps,
        "uncertainty": number(given, "sampling.uncertainty", 0, steps, 1, whole=False),
        "eta": number(given, "sampling.eta", 0, 1, 0, whole=False),
        "stabilization": number(given, "sampling.stabilization", 0, levels, 0),
        **complete_grid(given, levels),
        "max_tokens": number(given, "sampling.max_tokens", 1, 1 << 20, window or 64),
    }
    if window and not denoiser["causal"] and sampling["max_tokens"] > window:
        raise ExportError(
            f"sampling.max_tokens: a transformer that is not causal takes at most its window of {window}, "
            f"found {sampling['max_tokens']}"
        )
    return sampling
