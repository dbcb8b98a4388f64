"""README.md of an export: the skeleton of a model card."""

from collections.abc import Mapping

import numpy as np

from .checkpoint import Checkpoint
from .state import State

CITATION = """\
@inproceedings{chen2024diffusion,
  title     = {Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion},
  author    = {Chen, Boyuan and Mart{\\'i} Mons{\\'o}, Diego and Du, Yilun and Simchowitz, Max and
               Tedrake, Russ and Sitzmann, Vincent},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {37},
  year      = {2024}
}"""
FORMATS = {
    "f32": "float32",
    "f16": "float16, all tensors",
    "int8": "8 bits with a scale for each row in matrices of 16,384 numbers or more, else float32",
}


def text(config: Mapping, state: State, read: Checkpoint, form: str, notes: list[str]) -> str:
    name = config["name"].replace("\n", " ")
    count = sum(weight.size for weight in state.weights.values())
    parts = [
        f"# {name}",
        "TO FILL IN: one sentence on what the model makes, and a picture.",
        f"A Diffusion Forcing model ({config['denoiser']['kind']}, {count:,} parameters) for "
        "[diffusion-forcing](https://arxiv.org/abs/2407.01392) in the browser.",
        "## What it models",
        "\n".join(fields(config)),
        "TO FILL IN: the units of these fields, and what they mean.",
        "## Where the weights are from",
        "\n".join(origin(config, state, read, form)),
        *notes,
        "TO FILL IN: the data it was trained on, their source and licence; how long; how good it is.",
        "## In a page",
        f"```js\n{example(config)}\n```",
        "`forcing verify .` in this folder compares the library with what PyTorch computed\n"
        "(`reference.safetensors`).",
        "## Licence",
        config.get("license")
        or "TO FILL IN: the licence of the weights (`--license` puts it into the model as well).",
        "## How to cite",
        "TO FILL IN: your own work. The method:",
        f"```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def fields(config: Mapping) -> list[str]:
    tokens, sampling = config["tokens"], config["sampling"]
    lines = [
        f"A token is {tokens['frame_stack']} frame{'s' * (tokens['frame_stack'] > 1)}; a frame is, in data "
        "units:",
        "",
        "| field | mean | standard deviation |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {f['name']} | {f.get('mean', 0):g} | {f.get('std', 1):g} |" for f in tokens["fields"]
    ]
    if "observation" in config:
        names = ", ".join(f["name"] for f in config["observation"]["fields"])
        lines += ["", f"It starts from an observation ({names}), in data units."]
    if "condition" in config:
        names = ", ".join(config["condition"]["fields"])
        lines += ["", f"Conditions of a frame, as the network gets them: {names}."]
    lines += [
        "",
        f"Sampled by default with {sampling['steps']} steps, schedule {sampling['schedule']} (uncertainty "
        f"{sampling['uncertainty']:g}), eta {sampling['eta']:g}, up to {sampling['max_tokens']} tokens.",
    ]
    return lines


def origin(config: Mapping, state: State, read: Checkpoint, form: str) -> list[str]:
    facts = {"epoch": "epoch", "global_step": "step", "pytorch-lightning_version": "Lightning"}
    said = ", ".join(f"{facts[key]} {value}" for key, value in read.facts.items())
    lines = [f"- Read from {read.form}{f' ({said})' if said else ''}; nothing in it was executed."]
    if "code" in config.get("training", {}):
        lines.append(f"- Trained with {config['training']['code']}.")
    diffusion = config["diffusion"]
    lines.append(
        f"- Predicts {diffusion['objective']}, {diffusion['schedule']} schedule, {diffusion['levels']} "
        f"levels{'; the noise tables in the state_dict agree' if state.tables else ''}."
    )
    lines.append(f"- Stored as {FORMATS[form]}.")
    for name in read.ignored:
        lines.append(f"- Left out: `{name}`, which only measures quality in training.")
    if state.embedding is not None and "condition" in config:
        values = ", ".join(f"{value:g}" for value in np.ravel(state.embedding)[:64])
        lines.append(
            f"- `embed.weight`, an input to the conditions, is no part of the network: {values}."
        )
    elif state.embedding is not None:
        lines.append("- Left out: `embed.weight`, which the network does not use.")
    return lines


def example(config: Mapping) -> str:
    """Runs as it is, beside the model."""
    denoiser, stack = config["denoiser"], config["tokens"]["frame_stack"]
    calls = ""
    if denoiser.get("observation_size"):
        means = [f.get("mean", 0) for f in config.get("observation", {}).get("fields", [])]
        values = ", ".join(f"{v:g}" for v in means or [0] * denoiser["observation_size"])
        calls = f"sampler.observe([{values}]); // what it starts from\n"
    length = config["sampling"]["max_tokens"]
    if denoiser["condition_size"]:
        size = length * denoiser["condition_size"]
        calls += (
            f"sampler.condition(0, new Float32Array({size})); // those of {length * stack} frames\n"
        )
    return (
        "import { loadModel } from 'diffusion-forcing';\n\n"
        "const model = await loadModel('model.safetensors');\n"
        f"const sampler = model.sampler({{ length: {length}, seed: 1 }});\n"
        f"{calls}"
        "for await (const { row, rows, tokens, estimate } of sampler) {\n"
        "  console.log(row, rows, tokens, estimate);\n"
        "}\n"
        "sampler.dispose();\n"
        "model.dispose();"
    )
