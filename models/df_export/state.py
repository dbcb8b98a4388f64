"""A state_dict in parts: the network's weights under their own names, the tables and the rest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from .errors import ExportError
from .names import Tensor

AnyTensor = Tensor | torch.Tensor
PREFIXES = ("transition_model.", "diffusion_model.")  # branch paper, branch main
TABLES = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "p2_loss_weight",
    "clipped_snr",
    "snr",
}
SUPPORTED = (
    "supported are planning and prediction of branch paper (the RNN on vectors) and planning of branch "
    "main (the token transformer)"
)


@dataclass
class State:
    weights: dict[str, np.ndarray]  # float32
    names: dict[str, str]  # of a weight -> its name in the source
    tables: dict[str, np.ndarray]  # betas, alphas_cumprod: those that are there
    mean: np.ndarray | None
    std: np.ndarray | None
    embedding: np.ndarray | None  # `embed.weight`, which is no part of the network

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: weight.shape for name, weight in self.weights.items()}


def refuse_images(names: Iterable[str]) -> None:
    """The networks on images are known by their names, and not supported yet."""
    names = set(names)
    if any("model.module." in name for name in names):
        raise ExportError(f"video of branch main (3D U-Net) is not supported yet; {SUPPORTED}")
    if any("model.init_conv." in name or "x_from_z.0." in name for name in names):
        raise ExportError(
            f"video of branch paper (RNN with a 2D U-Net) is not supported yet; {SUPPORTED}"
        )


def values(name: str, tensor: AnyTensor) -> np.ndarray:
    """float32 and finite."""
    if not tensor.dtype.is_floating_point:
        raise ExportError(f"tensor {name}: expected floating-point numbers, found {tensor.dtype}")
    tensor = tensor.read() if isinstance(tensor, Tensor) else tensor.detach().cpu()
    array = tensor.to(torch.float32).contiguous().numpy()
    if not np.isfinite(array).all():
        raise ExportError(f"tensor {name}: an entry is not finite")
    return array


def split(tensors: Mapping[str, AnyTensor]) -> State:
    refuse_images(tensors)
    state = State({}, {}, {}, None, None, None)
    for name, tensor in tensors.items():
        prefix = next((p for p in PREFIXES if name.startswith(p)), "")
        plain = name.removeprefix(prefix)
        if plain in ("betas", "alphas_cumprod"):
            state.tables[plain] = values(name, tensor)
        elif plain in TABLES:
            continue
        elif name == "data_mean":
            state.mean = values(name, tensor)
        elif name == "data_std":
            state.std = values(name, tensor)
        elif name == "embed.weight":
            state.embedding = values(name, tensor)
        elif plain in state.weights:
            raise ExportError(f"tensor {plain} is there twice, under two prefixes")
        else:
            state.weights[plain] = values(name, tensor)
            state.names[plain] = name
    if len({table.shape for table in state.tables.values()}) > 1:
        raise ExportError("the noise tables betas and alphas_cumprod differ in length")
    return state
