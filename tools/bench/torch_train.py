"""Training steps in PyTorch: forward, backward, clipping, AdamW, moving average, as the recipe has them.

    python3 tools/bench/torch_train.py JOB.json THREADS STEPS

JOB.json: {"config": of the model, "lengths": tokens of each sequence, "batch": B, "training": of the
recipe}. Prints JSON with the tokens per second of a step, the median without the first two. The data are random
numbers: only their lengths matter. The recurrence is a loop over tokens; everything else (codes of the
levels, head, loss, noise) is done for all tokens at once.
"""

import json
import random
import statistics
import sys
import time

import torch
from torch.nn import functional as F

from torch_network import Network, alpha_bar

path, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(1)
with open(path) as file:
    job = json.load(file)
config, lengths, batch, recipe = job["config"], job["lengths"], job["batch"], job["training"]
K = config["diffusion"]["levels"]
predicts_v = config["diffusion"]["objective"] == "v"
abar = alpha_bar(K)
signal, noise_scale = abar.sqrt(), (1 - abar).sqrt()

network = Network(config)
parameters = list(network.parameters())
average = [p.detach().clone() for p in parameters]
optimiser = torch.optim.AdamW(
    parameters,
    lr=recipe["rate"],
    betas=(recipe["beta1"], recipe["beta2"]),
    weight_decay=recipe["weight_decay"],
    foreach=True,
)


def batches(most):
    """Sequences of like length side by side: 16 batches at a time are sorted, as src/train/data.c does."""
    order = list(range(len(lengths)))
    random.Random(1).shuffle(order)
    order = order[: len(order) // batch * batch]
    result = []
    for i in range(0, len(order), 16 * batch):
        part = sorted(order[i : i + 16 * batch], key=lambda j: lengths[j])
        result += [part[j : j + batch] for j in range(0, len(part), batch)]
    random.Random(2).shuffle(result)
    return [[lengths[j] for j in result[i % len(result)]] for i in range(most)]


def loss_of(counts):
    B, T, D = len(counts), max(counts), network.model.x
    counts = torch.tensor(counts)
    place = torch.arange(T + 1)[:, None]
    there = (place[:T] < counts).float()  # (T, B)
    clean, eps = torch.randn(T, B, D), torch.randn(T, B, D)
    level = torch.randint(1, K + 1, (T, B))
    a, s = signal[level][..., None], noise_scale[level][..., None]
    x = a * clean + s * eps
    target = a * eps - s * clean if predicts_v else clean
    inputs = torch.cat([x, network.model.time_mlp((level - 1).float())], -1)

    z = torch.zeros(B, network.model.z)
    latents = [z]
    for t in range(T):
        z = network.model(z, inputs[t])
        latents.append(z)
    latents = torch.stack(latents)  # (T + 1, B, Z)
    error = (network.x_from_z(latents[1:]) - target).square().mean(-1)
    loss = (error * there).sum() / there.sum()
    if network.stop is not None:
        logit = network.stop(latents)[..., 0]
        ends = (place == counts).float()
        nll = F.binary_cross_entropy_with_logits(logit, ends, reduction="none")
        loss = loss + recipe["stop_weight"] * (nll * (place <= counts)).sum() / B
    return loss


speeds = []
for step, counts in enumerate(batches(steps + 2)):
    start = time.perf_counter()
    optimiser.zero_grad(set_to_none=True)
    loss_of(counts).backward()
    torch.nn.utils.clip_grad_norm_(parameters, recipe["clip_gradient"])
    optimiser.step()
    with torch.no_grad():
        torch._foreach_mul_(average, recipe["ema"])
        torch._foreach_add_(average, parameters, alpha=1 - recipe["ema"])
    if step >= 2:
        speeds.append(sum(counts) / (time.perf_counter() - start))
print(
    json.dumps(
        {
            "version": torch.__version__,
            "parameters": sum(p.numel() for p in parameters),
            "tokens_per_second": statistics.median(speeds),
        }
    )
)
