"""A whole plan as the published code samples it: every token in every row, one at a time.

    python3 tools/bench/torch_plan.py MODEL TOKENS STEPS UNCERTAINTIES SECONDS

Prints JSON. Of each table only as many rows are run as fit SECONDS; the time of all follows from them,
since every row costs the same. Time is that of the processor, on one thread: other processes do not
count. `check` is the output for a fixed input, to be compared with others.
"""

import json
import sys
import time

import torch

from torch_network import alpha_bar, load

path, tokens, steps, uncertainties, limit = sys.argv[1:]
T, S, limit = int(tokens), int(steps), float(limit)
torch.set_num_threads(1)
network, config = load(path)
K = config["diffusion"]["levels"]
abar = alpha_bar(K)
grid = [K * i // S for i in range(S + 1)]


@torch.no_grad()
def step_token(x, z, index):
    """DDIM (eta 0) from grid index `index` to the next lower one; the output is the clean token."""
    level, lower = grid[index], grid[index - 1]
    code = network.model.time_mlp(torch.full((x.shape[0],), float(level - 1)))
    z = network.model(z, torch.cat([x, code], 1))
    x0 = network.x_from_z(z)
    noise = (x / abar[level].sqrt() - x0) / (1 / abar[level] - 1).sqrt()
    return abar[lower].sqrt() * x0 + (1 - abar[lower]).sqrt() * noise, z


def sample(uncertainty):
    """(seconds for all rows, rows of the table, rows that were run)"""
    rows = S + int(T * uncertainty)
    x = [torch.randn(1, network.model.x) for _ in range(T)]
    run, start = 0, time.perf_counter()
    for m in range(rows):
        z = torch.zeros(1, network.model.z)
        for t in range(T):
            done = min(max(m - int(t * uncertainty), 0), S - 1)
            x[t], z = step_token(x[t], z, S - done)
        run += 1
        if time.perf_counter() - start > limit:
            break
    return (time.perf_counter() - start) / run * rows, rows, run


x = torch.sin(torch.arange(network.model.x).float())[None]
with torch.no_grad():
    code = network.model.time_mlp(torch.tensor([float(K // 2)]))
    z = network.model(torch.zeros(1, network.model.z), torch.cat([x, code], 1))
    check = network.x_from_z(z)[0].tolist()
for _ in range(20):
    step_token(x, z, S)
plans = {}
for u in uncertainties.split(","):
    seconds, rows, run = sample(float(u))
    plans[u] = {"seconds": seconds, "rows": rows, "run": run}
print(json.dumps({"version": torch.__version__, "check": check, "plans": plans}))
