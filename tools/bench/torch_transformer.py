"""A row of a causal transformer as the published code samples it: the whole window in one pass.

    python3 tools/bench/torch_transformer.py MODEL TOKENS WINDOW BATCHES SECONDS

TOKENS: a file of float32 (WINDOW, X). Prints JSON: `check`, the network's output for them at the highest level, to be
compared with others, and `seconds` of a row (the median of as many as fit SECONDS) by sequences side by side, with the
move of every token to its next level, on one thread.
"""

import json
import statistics
import sys
import time

import numpy as np
import torch
from torch import nn

from torch_network import PositionCode, alpha_bar, read

path, tokens, window, batches, limit = sys.argv[1:]
N, limit = int(window), float(limit)
torch.set_num_threads(1)


class Transformer(nn.Module):
    """src/denoisers/transformer.c; parameter names are those of the model files."""

    def __init__(self, config):
        super().__init__()
        net, x = config["denoiser"], len(config["tokens"]["fields"])
        width = net["network_size"]
        layer = nn.TransformerEncoderLayer(
            width, net["heads"], net["hidden_size"], dropout=0.0, batch_first=False
        )
        self.level_code, self.position_code = PositionCode(width // 2), PositionCode(width)
        self.model = nn.ModuleDict(
            {
                "init_mlp": nn.Sequential(
                    nn.Linear(x + width // 2, width), nn.ReLU(), nn.Linear(width, width)
                ),
                "transformer": nn.TransformerEncoder(layer, net["layers"]),
                "out": nn.Linear(width, x),
            }
        )

    def forward(self, x, level):
        """x (N, B, X), level (N, B), 0 .. K - 1 -> (N, B, X)"""
        n = x.shape[0]
        h = self.model["init_mlp"](torch.cat([x, self.level_code(level)], -1))
        h = h + self.position_code(torch.arange(n).float())[:, None]
        mask = nn.Transformer.generate_square_subsequent_mask(n)
        return self.model["out"](self.model["transformer"](h, mask=mask))


config, tensors = read(path)
network = Transformer(config)
network.load_state_dict(tensors)
network.eval()
K = config["diffusion"]["levels"]
abar = alpha_bar(K)


@torch.no_grad()
def row(x, level, lower):
    """DDIM (eta 0) of all tokens; the output is the clean token."""
    x0 = network(x, (level - 1).float())
    a, b = abar[level][..., None], abar[lower][..., None]
    noise = (x / a.sqrt() - x0) / (1 / a - 1).sqrt()
    return b.sqrt() * x0 + (1 - b).sqrt() * noise


x = torch.tensor(np.fromfile(tokens, np.float32).reshape(N, 1, -1))
with torch.no_grad():
    check = network(x, torch.full((N, 1), float(K - 1))).flatten().tolist()
seconds = {}
for batch in map(int, batches.split(",")):
    tokens = x.expand(N, batch, -1).contiguous()
    level = torch.full((N, batch), K // 2)
    times = []
    for _ in range(3):
        row(tokens, level, level - K // 50)
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < limit:
        start = time.perf_counter()
        row(tokens, level, level - K // 50)
        times.append(time.perf_counter() - start)
    seconds[batch] = statistics.median(times)
print(json.dumps({"version": torch.__version__, "check": check, "seconds": seconds}))
