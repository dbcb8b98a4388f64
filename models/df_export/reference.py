"""reference.safetensors: inputs, and what the network makes of them in PyTorch.

B sequences of T tokens enter together, from their first token on. README.md has the list of tensors.
"""

import contextlib
import copy
import inspect
import json
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from . import networks
from .errors import ExportError

FORMAT = "diffusion-forcing-reference/1"
SEQUENCES, TOKENS = 2, 8
Arrays = dict[str, np.ndarray]


def draw(config: Mapping) -> Arrays:
    """Inputs: normal random numbers, levels from 1 to K with both ends among them."""
    denoiser, levels = config["denoiser"], config["diffusion"]["levels"]
    random = np.random.RandomState(0)  # its numbers are the same in every version
    B, D, E = SEQUENCES, denoiser["token_size"], denoiser["condition_size"]
    T = denoiser.get("window") or min(TOKENS, config["sampling"]["max_tokens"])

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    inputs = {
        "in.x": normal(B, T, D),
        "in.level": random.randint(1, levels + 1, (B, T)).astype(np.int64),
    }
    inputs["in.level"][0, 0], inputs["in.level"][-1, -1] = levels, 1
    if E:
        inputs["in.cond"] = normal(B, T, E)
    if denoiser.get("self_condition"):
        inputs["in.guess"] = normal(B, T, D)
    if denoiser.get("observation_size"):
        mean, std = observation_scale(config)
        inputs["in.observation"] = normal(B, denoiser["observation_size"]) * std + mean
    return inputs


def scale(fields: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std as the library holds them."""
    return tuple(
        np.array([field.get(key, default) for field in fields], np.float32)
        for key, default in (("mean", 0), ("std", 1))
    )


def observation_scale(config: Mapping) -> tuple[np.ndarray, np.ndarray]:
    unscaled = [{}] * config["denoiser"]["observation_size"]
    return scale(config.get("observation", {}).get("fields", unscaled))


def decode(config: Mapping, x: np.ndarray) -> np.ndarray:
    """Tokens (B,T,D) as frames in data units (B,T,frame_stack,C)."""
    tokens = config["tokens"]
    fields, stack = tokens["fields"], tokens["frame_stack"]
    mean, std = (part.astype(x.dtype) for part in scale(fields))
    step = np.array([field.get("step", 0) for field in fields], np.float32).astype(x.dtype)
    cut = x.reshape(*x.shape[:2], stack, -1)[..., : len(fields)]
    frames = cut * std + mean
    for f in range(1, stack):  # fields with a step hold the change from the frame before
        change = frames[:, :, f - 1] + cut[:, :, f] * step
        frames[:, :, f] = np.where(step > 0, change, frames[:, :, f])
    return frames


def run(
    config: Mapping, weights: Mapping, inputs: Mapping, dtype: torch.dtype, module=None
) -> Arrays:
    """The outputs, all computed in dtype. module: stands for the network after the start."""
    network = networks.build(config["denoiser"])
    network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()}, strict=True)
    network = network.to(dtype)
    step = network if module is None else calling(module)
    given = {
        name[3:]: torch.from_numpy(value).to(torch.int64 if name == "in.level" else dtype)
        for name, value in inputs.items()
    }
    given["level"] = given["level"] - 1  # the network counts from 0
    observation = given.pop("observation", None)
    with torch.no_grad(), one_thread():
        if config["denoiser"]["kind"] == "transformer":
            outputs = {"output": step(**given)}
        else:
            if observation is not None:
                mean, std = (torch.from_numpy(s).to(dtype) for s in observation_scale(config))
                observation = (observation - mean) / std
            z = z0 = network.start(SEQUENCES, observation)
            results = []
            for t in range(given["x"].shape[1]):
                results.append(step(z=z, **{name: value[:, t] for name, value in given.items()}))
                z = results[-1][1]
            output, latents = (torch.stack(part, 1) for part in zip(*results))
            outputs = {"z0": z0, "output": output, "z": latents}
    arrays = {name: value.contiguous().numpy() for name, value in outputs.items()}
    return arrays | {"frames": decode(config, given["x"].numpy())}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums come out the same however many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def make(
    config: Mapping, weights: Arrays, stored: Arrays, form: str, own=None
) -> tuple[Arrays, dict]:
    """Tensors and metadata of the file.

    weights: as they were; stored: as the model file gives them back, in the format `form`. own: a
    function from weights to the author's own module with these weights (load_into), or None.
    """
    inputs = draw(config)
    module = own(stored) if own else None
    single = run(config, stored, inputs, torch.float32, module)
    double = run(config, stored, inputs, torch.float64)
    numerics = {}
    for name, value in single.items():
        if value.shape != double[name].shape:
            raise ExportError(
                f"the module's {name} has shape {list(value.shape)}, expected {list(double[name].shape)}"
            )
        largest = float(np.abs(value).max())
        difference = float(np.abs(value - double[name]).max())
        if module is not None and difference > 1e-3 * largest + 1e-6:
            raise ExportError(
                f"the module computes something else than kind {config['denoiser']['kind']}: {name} "
                f"differs by up to {difference:.3g} (largest magnitude {largest:.3g})"
            )
        numerics[f"out.{name}"] = [float(f"{largest:.3g}"), float(f"{difference:.3g}")]
    tensors = inputs | {f"out.{name}": value for name, value in single.items()}
    if form != "f32":
        exact = run(config, weights, inputs, torch.float32, own(weights) if own else None)
        tensors |= {f"f32.{name}": value for name, value in exact.items() if name != "frames"}
    by = "the author's module" if own else "the networks of df_export"
    return tensors, {
        "format": FORMAT,
        "weights": form,
        "numerics": json.dumps(numerics),
        "source": f"Computed by {by} in PyTorch on a CPU, float32, one thread.",
    }


def is_runnable(module: torch.nn.Module, kind: str) -> bool:
    """Does its forward have the signature of the network of that kind in networks.py?"""
    names = inspect.signature(module.forward).parameters
    return {"x", "level", *(("z",) if kind == "rnn" else ())} <= set(names)


def calling(module: torch.nn.Module):
    """The module as a function whose failures are ours to tell."""

    def call(**given: torch.Tensor):
        try:
            return module(**given)
        except Exception as error:  # whatever the author's code raises
            what = f"{type(error).__name__}: {error}"
            raise ExportError(f"its forward failed for {', '.join(given)}: {what}") from error

    return call


def load_into(module: torch.nn.Module, names: Mapping[str, str]):
    """A function that gives copies of the module with other weights; names: ours -> the module's."""

    def with_weights(weights: Arrays) -> torch.nn.Module:
        copied = copy.deepcopy(module).cpu().float().eval()
        state = {names[name]: torch.from_numpy(weight) for name, weight in weights.items()}
        copied.load_state_dict(state, strict=False)
        return copied

    return with_weights
