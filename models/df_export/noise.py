"""The noise schedules, to find out which one the tables of a checkpoint are."""

import numpy as np

SCHEDULES = ("linear", "cosine", "sigmoid")


def tables(schedule: str, levels: int) -> dict[str, np.ndarray]:
    """betas and alphas_cumprod (levels,) in float64, as the official code computes them."""
    if schedule == "linear":
        betas = np.linspace(0.1 / levels, 20 / levels, levels)
    else:
        v = np.linspace(0, 1, levels + 1)
        if schedule == "cosine":
            signal = np.cos((v + 0.008) / 1.008 * np.pi / 2) ** 2
        else:
            sigmoid = 1 / (1 + np.exp(-(6 * v - 3)))
            signal = (sigmoid[-1] - sigmoid) / (sigmoid[-1] - sigmoid[0])
        signal = signal / signal[0]
        betas = np.clip(1 - signal[1:] / signal[:-1], 0, 0.999)
    return {"betas": betas, "alphas_cumprod": np.cumprod(1 - betas)}


def matches(schedule: str, levels: int, found: dict[str, np.ndarray]) -> bool:
    """Are these tables of the schedule? The published sigmoid rounds in between, by 3e-5."""
    expected = tables(schedule, levels)
    return all(
        np.allclose(table.ravel(), expected[name], rtol=1e-4, atol=1e-8)
        for name, table in found.items()
    )
