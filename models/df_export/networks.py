"""The networks in PyTorch, as the official code names and computes them.

Letters: B sequences, T tokens, D floats per token, Z latent, E floats of condition per token. A level
is the network's: 0 (least noisy) .. K-1.
"""

import math

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class SinCos(nn.Module):
    """Position code of numbers t: all sines, then all cosines; `size` of them."""

    def __init__(self, size: int):
        super().__init__()
        self.half = size // 2

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        place = torch.arange(self.half, dtype=t.dtype, device=t.device)
        angle = t[..., None] * torch.exp(place * (-math.log(10000) / (self.half - 1)))
        return torch.cat([angle.sin(), angle.cos()], -1)


class Residual(nn.Module):
    """gelu(shortcut(x) + W2 gelu(W0 x)); no shortcut weights where both sizes are equal."""

    def __init__(self, size: int, to: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(size, to), nn.GELU(), nn.Linear(to, to))
        self.shortcut = nn.Linear(size, to) if size != to else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(self.shortcut(x) + self.mlp(x))


def mlp(layers: int, size: int, hidden: int, to: int, after: bool) -> nn.Module:
    """num_mlp_layers of the official code, before and after the GRU cells."""
    if layers == 0:
        return nn.Identity()
    if layers == 1:
        return nn.Linear(size, to) if after else Residual(size, to)
    blocks = [Residual(size if i == 0 else hidden, hidden) for i in range(layers - 1)]
    return nn.Sequential(*blocks, nn.Linear(hidden, to))


class RnnBody(nn.Module):
    def __init__(self, sizes: dict):
        super().__init__()
        s, Z, D, E = (
            sizes[key] for key in ("network_size", "latent_size", "token_size", "condition_size")
        )
        layers, L, hidden = sizes["mlp_layers"], sizes["gru_layers"], sizes["hidden_size"]
        width = (D if sizes["self_condition"] else 0) + Z + D + s + (s if E else 0)
        self.cells = L
        self.time_mlp = nn.Sequential(SinCos(s), nn.Linear(s, s), nn.GELU(), nn.Linear(s, s))
        if E:
            self.external_cond_mlp = nn.Sequential(nn.Linear(E, s), nn.GELU(), nn.Linear(s, s))
        self.mlp_before_gru = mlp(layers, width, hidden, Z, after=False)
        self.gru_stack = nn.ModuleList(
            nn.GRUCell((Z if layers else width) if i == 0 else Z // L, Z // L) for i in range(L)
        )
        self.mlp_after_gru = mlp(layers, Z, hidden, Z, after=True)

    def forward(self, x, level, z, cond=None, guess=None):
        inputs = [guess, z, x, self.time_mlp(level)]
        inputs.append(self.external_cond_mlp(cond) if cond is not None else None)
        v = self.mlp_before_gru(torch.cat([part for part in inputs if part is not None], -1))
        if self.cells:
            states = []
            for cell, piece in zip(self.gru_stack, z.chunk(self.cells, -1)):
                v = cell(v, piece)
                states.append(v)
            v = torch.cat(states, -1)
        return self.mlp_after_gru(v)


class Rnn(nn.Module):
    """The vector network of branch `paper`: one token at a time, a latent goes from one to the next."""

    def __init__(self, sizes: dict):
        super().__init__()
        Z = sizes["latent_size"]
        self.latent_size = Z
        self.model = RnnBody(sizes)
        self.x_from_z = nn.Linear(Z, sizes["token_size"])
        if sizes["stop_head"]:
            self.stop = nn.Linear(Z, 1)
        if sizes["initial"] == "learned":
            self.init_z = nn.Parameter(torch.zeros(Z))
        if sizes["initial"] == "encoded":
            first, second, third = (
                nn.Linear(sizes["observation_size"], 128),
                nn.Linear(128, 128),
                nn.Linear(128, Z),
            )
            self.init_encoder = nn.Sequential(first, nn.ELU(), second, nn.ELU(), third)

    def forward(self, x, level, z, cond=None, guess=None):
        """x (B,D), level (B), z (B,Z), cond (B,E), guess (B,D) -> output (B,D), next z (B,Z)."""
        z = self.model(x, level.to(x.dtype), z, cond, guess)
        return self.x_from_z(z), z

    def start(self, batch: int, observation=None) -> torch.Tensor:
        """The latent before the first token; observation (B,O) in network units."""
        if hasattr(self, "init_encoder"):
            return self.init_encoder(observation)
        if hasattr(self, "init_z"):
            return self.init_z.expand(batch, -1)
        return self.x_from_z.weight.new_zeros(batch, self.latent_size)


class Attention(nn.Module):
    def __init__(self, size: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * size, size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * size))
        self.out_proj = nn.Linear(size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, size = x.shape
        qkv = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        # Heads are neighbouring blocks of each of q, k, v: (3, B, heads, T, size of a head)
        q, k, v = qkv.view(B, T, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(size // self.heads)
        if self.causal:
            later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        mixed = scores.softmax(-1) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(B, T, size))


class Layer(nn.Module):
    """An encoder layer, normalised after each half."""

    def __init__(self, size: int, hidden: int, heads: int, causal: bool):
        super().__init__()
        self.self_attn = Attention(size, heads, causal)
        self.linear1, self.linear2 = nn.Linear(size, hidden), nn.Linear(hidden, size)
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class TransformerBody(nn.Module):
    def __init__(self, sizes: dict):
        super().__init__()
        C, D, E = sizes["network_size"], sizes["token_size"], sizes["condition_size"]
        self.level_code, self.position_code = SinCos(C // 2), SinCos(C)
        self.init_mlp = nn.Sequential(nn.Linear(D + C // 2 + E, C), nn.ReLU(), nn.Linear(C, C))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            Layer(C, sizes["hidden_size"], sizes["heads"], sizes["causal"])
            for _ in range(sizes["layers"])
        )
        self.out = nn.Linear(C, D)

    def forward(self, x, level, cond=None):
        inputs = [x, self.level_code(level)] + ([cond] if cond is not None else [])
        x = self.init_mlp(torch.cat(inputs, -1))
        x = x + self.position_code(torch.arange(x.shape[1], dtype=x.dtype, device=x.device))
        for layer in self.transformer.layers:
            x = layer(x)
        return self.out(x)


class Transformer(nn.Module):
    """The token transformer of branch `main`: a window of tokens at once."""

    def __init__(self, sizes: dict):
        super().__init__()
        self.model = TransformerBody(sizes)

    def forward(self, x, level, cond=None):
        """x (B,T,D), level (B,T), cond (B,T,E) -> output (B,T,D)."""
        return self.model(x, level.to(x.dtype), cond)


KINDS: dict[str, type[nn.Module]] = {"rnn": Rnn, "transformer": Transformer}


def build(sizes: dict) -> nn.Module:
    """sizes: `denoiser` of a complete config."""
    return KINDS[sizes["kind"]](sizes).eval()


class _OnMeta(TorchFunctionMode):
    """Tensors that are made have a shape and no memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros):
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def shapes(sizes: dict) -> dict[str, tuple[int, ...]]:
    """The tensors of the network. Takes no memory, whatever the sizes are."""
    with _OnMeta():
        network = KINDS[sizes["kind"]](sizes)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
