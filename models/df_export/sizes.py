"""What the tensors tell of a network: `denoiser` of config.json, as far as shapes go."""

import re
from collections.abc import Mapping

from .errors import ExportError

Shapes = Mapping[str, tuple[int, ...]]


def matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    """Rows and columns of a weight."""
    shape = shapes.get(name)
    if shape is None:
        raise ExportError(f"tensor {name} is missing")
    if len(shape) != 2 or 0 in shape:
        raise ExportError(f"tensor {name}: expected a matrix, found shape {list(shape)}")
    return shape[0], shape[1]


def count(shapes: Shapes, prefix: str) -> int:
    """Layers PREFIX.0, PREFIX.1, ..."""
    numbers = {
        m[1] for name in shapes if (m := re.match(re.escape(prefix) + r"\.([0-9]{1,4})\.", name))
    }
    return len(numbers)


def kind(shapes: Shapes) -> str:
    if "model.init_mlp.0.weight" in shapes:
        return "transformer"
    if "model.time_mlp.1.weight" in shapes and "x_from_z.weight" in shapes:
        return "rnn"
    raise ExportError(
        "the tensors are those of no network that is known here: expected model.time_mlp.1.weight and "
        "x_from_z.weight (kind rnn) or model.init_mlp.0.weight (kind transformer)"
    )


def rnn(shapes: Shapes) -> dict:
    token, latent = matrix(shapes, "x_from_z.weight")
    network = matrix(shapes, "model.time_mlp.1.weight")[0]
    condition = "model.external_cond_mlp.0.weight"
    condition_size = matrix(shapes, condition)[1] if condition in shapes else 0
    cells = count(shapes, "model.gru_stack")
    if "model.mlp_before_gru.mlp.0.weight" in shapes:
        layers, first = 1, "model.mlp_before_gru.mlp.0.weight"
    elif "model.mlp_before_gru.0.mlp.0.weight" in shapes:
        layers, first = count(shapes, "model.mlp_before_gru"), "model.mlp_before_gru.0.mlp.0.weight"
    else:
        layers, first = 0, "model.gru_stack.0.weight_ih"
    # What enters first: [guess, latent, token, time, condition].
    hidden, width = matrix(shapes, first)
    without = latent + token + network * (2 if condition_size else 1)
    if width not in (without, without + token):
        raise ExportError(
            f"tensor {first}: expected {without} columns (or {without + token} with an earlier guess) "
            f"as the other tensors have it, found {width}"
        )
    sizes = {
        "kind": "rnn",
        "token_size": token,
        "latent_size": latent,
        "network_size": network,
        "hidden_size": hidden if layers > 1 else 32 * network,
        "mlp_layers": layers,
        "gru_layers": cells,
        "condition_size": condition_size,
        "self_condition": width != without,
        "stop_head": "stop.weight" in shapes,
        "initial": "zero",
    }
    if "init_encoder.0.weight" in shapes:
        observation = matrix(shapes, "init_encoder.0.weight")[1]
        sizes |= {"initial": "encoded", "observation_size": observation}
    elif "init_z" in shapes:
        sizes["initial"] = "learned"
    if cells > 4 or layers > 64:
        raise ExportError(f"{cells} GRU cells and {layers} MLP layers: expected at most 4 and 64")
    if cells and latent % cells:
        raise ExportError(
            f"a latent of {latent} cannot be cut into {cells} pieces for the GRU cells"
        )
    if network < 4 or network % 2:
        raise ExportError(f"network_size: expected an even number from 4 on, found {network}")
    return sizes


def transformer(shapes: Shapes) -> dict:
    width, inputs = matrix(shapes, "model.init_mlp.0.weight")
    token = matrix(shapes, "model.out.weight")[0]
    condition = inputs - token - width // 2
    if width < 8 or width % 4:
        raise ExportError(f"network_size: expected a multiple of 4 from 8 on, found {width}")
    if condition < 0:
        raise ExportError(
            f"tensor model.init_mlp.0.weight: expected at least {token + width // 2} columns (token "
            f"and level code), found {inputs}"
        )
    return {
        "kind": "transformer",
        "token_size": token,
        "network_size": width,
        "layers": count(shapes, "model.transformer.layers"),
        "hidden_size": matrix(shapes, "model.transformer.layers.0.linear1.weight")[0],
        "condition_size": condition,
        "stop_head": False,
    }


def of(shapes: Shapes) -> dict:
    return rnn(shapes) if kind(shapes) == "rnn" else transformer(shapes)


def check(shapes: Shapes, expected: Shapes) -> None:
    """Every tensor that the network has, of its shape, and no other."""
    for name, shape in expected.items():
        if name not in shapes:
            raise ExportError(f"tensor {name} is missing")
        if tuple(shapes[name]) != tuple(shape):
            raise ExportError(
                f"tensor {name}: expected shape {list(shape)}, found {list(shapes[name])}"
            )
    for name in shapes:
        if name not in expected:
            raise ExportError(
                f"tensor {name} is no part of the network that the other tensors make"
            )
