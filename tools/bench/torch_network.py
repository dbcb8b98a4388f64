"""The vector RNN of src/denoisers/rnn.c in PyTorch, as its published code writes it, for one GRU layer
and mlp_layers >= 2. Parameter names are those of the model files."""

import json
import math
import struct

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self, size, out):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(size, out), nn.GELU(), nn.Linear(out, out))
        self.shortcut = nn.Identity() if size == out else nn.Linear(size, out)

    def forward(self, x):
        return F.gelu(self.shortcut(x) + self.mlp(x))


class PositionCode(nn.Module):
    def __init__(self, size):
        super().__init__()
        half = size // 2
        steps = torch.arange(half) * (-math.log(10000) / (half - 1))
        self.register_buffer("frequencies", steps.exp(), persistent=False)

    def forward(self, level):
        angles = level.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


def mlp(size, hidden, out, layers):
    widths = [size] + [hidden] * (layers - 1)
    blocks = [Residual(a, b) for a, b in zip(widths, widths[1:])]
    return nn.Sequential(*blocks, nn.Linear(widths[-1], out))


class Cell(nn.Module):
    """One token: forward(z, x and its level's code side by side) gives the next z."""

    def __init__(self, config):
        super().__init__()
        net, tokens = config["denoiser"], config["tokens"]
        self.x = tokens.get("frame_stack", 1) * (len(tokens["fields"]) + tokens.get("present", False))
        self.z, s, hidden = net["latent_size"], net["network_size"], net["hidden_size"]
        self.time_mlp = nn.Sequential(PositionCode(s), nn.Linear(s, s), nn.GELU(), nn.Linear(s, s))
        self.mlp_before_gru = mlp(self.z + self.x + s, hidden, self.z, net["mlp_layers"])
        self.gru_stack = nn.ModuleList([nn.GRUCell(self.z, self.z)])
        self.mlp_after_gru = mlp(self.z, hidden, self.z, net["mlp_layers"])

    def forward(self, z, inputs):
        v = self.mlp_before_gru(torch.cat([z, inputs], 1))
        return self.mlp_after_gru(self.gru_stack[0](v, z))


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.model = Cell(config)
        self.x_from_z = nn.Linear(self.model.z, self.model.x)
        self.stop = nn.Linear(self.model.z, 1) if config["denoiser"].get("stop_head") else None


def read(path):
    """Config and tensors of a model file (safetensors, float32)."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    config = json.loads(header.pop("__metadata__")["config"])
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])
        tensors[name] = torch.tensor(array)
    return config, tensors


def load(path):
    """The network of a model file, and its config."""
    config, tensors = read(path)
    network = Network(config)
    network.load_state_dict(tensors)
    return network.eval(), config


def alpha_bar(levels):
    """The cosine schedule, level 0 (clean) to K."""
    f = [math.cos((i / levels + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(levels + 1)]
    values = [1.0]
    for i in range(levels):
        values.append(values[-1] * (1 - min(max(1 - f[i + 1] / f[i], 0), 0.999)))
    return torch.tensor(values)
