"""The configuration of the official code (github.com/buoyancy99/diffusion-forcing) as a config.json.

Which class wrote a checkpoint is told by its tensors; the configuration does not say.
"""

import json
import math
from pathlib import Path

from . import sizes
from .config import tidy
from .errors import ExportError
from .hydra import Config
from .state import State

OBJECTIVES = {"pred_x0": "x0", "pred_noise": "eps", "pred_v": "v"}
SCHEDULES = {
    "pyramid": "pyramid",
    "autoregressive": "autoregressive",
    "full_sequence": "full-sequence",
    "trapezoid": "trapezoid",
}


class Run:
    """A run of the official code: its configuration, its tensors, the files beside it."""

    def __init__(self, hydra: Config, state: State, folder: Path | None, facts: dict):
        self.hydra, self.state, self.folder, self.facts = hydra, state, folder, facts
        self.kind = sizes.kind(state.shapes)
        encoded = "init_encoder.0.weight" in state.shapes
        self.task = "planning" if encoded or self.kind == "transformer" else "prediction"
        self.observations = 0  # fields of an observation
        self.notes: list[str] = []

    @property
    def branch(self) -> str:
        return "main" if self.kind == "transformer" else "paper"

    def whole(self, place: str, default: object = None, least: int = 0) -> int:
        value = self.hydra.get(place) if default is None else self.hydra.get(place, default)
        if type(value) is not int or value < least:
            raise ExportError(f"{place}: expected a whole number from {least} on, found {value!r}")
        return value

    def number(self, place: str, default: float) -> float:
        value = self.hydra.get(place, default)
        if type(value) not in (int, float):
            raise ExportError(f"{place}: expected a number, found {value!r}")
        return value

    def one_of(self, place: str, choices: dict) -> str:
        value = self.hydra.get(place)
        if not isinstance(value, str) or value not in choices:
            raise ExportError(f"{place}: expected one of {', '.join(choices)}, found {value!r}")
        return choices[value]

    def numbers(self, place: str) -> list:
        value = self.hydra.get(place, None)
        value = [] if value is None else value
        if not isinstance(value, list) or not all(type(v) in (int, float) for v in value):
            raise ExportError(f"{place}: expected a list of numbers, found {value!r}")
        return value

    # ---- The parts of config.json ----

    def config(self) -> dict:
        stack = self.whole("algorithm.frame_stack", least=1)
        conditions = self.whole("algorithm.external_cond_dim", 0)
        config = {
            "denoiser": self.denoiser() | {"condition_size": conditions},
            "diffusion": self.diffusion(),
            "tokens": {"frame_stack": stack, "fields": self.fields()},
            "sampling": self.sampling(stack),
            "training": {
                "mode": "independent",
                "code": f"github.com/buoyancy99/diffusion-forcing, branch {self.branch}, {self.task}",
            },
        }
        if "global_step" in self.facts:
            config["training"]["steps"] = self.facts["global_step"]
        fields = [field["name"] for field in config["tokens"]["fields"]]
        if self.task == "prediction":
            config["view"] = {"kind": "lines"}
        elif fields[:2] == ["x", "y"]:
            config["view"] = {"kind": "path", "x": "x", "y": "y"}
        if self.task == "planning" and self.kind == "rnn":
            seen = config["tokens"]["fields"][: self.observations]
            config["observation"] = {"fields": seen}
        if conditions and conditions % stack == 0:
            config["condition"] = {"fields": self.conditions(conditions // stack, len(fields))}
        return config

    def denoiser(self) -> dict:
        diffusion = "algorithm.diffusion."
        if self.kind == "transformer":
            place = diffusion + "architecture."
            return {
                "network_size": self.whole(place + "network_size"),
                "layers": self.whole(place + "num_layers"),
                "heads": self.whole(place + "attn_heads", least=1),
                "hidden_size": self.whole(place + "dim_feedforward"),
                "window": self.whole("algorithm.episode_len")
                // self.whole("algorithm.frame_stack", least=1)
                + 1,
                "causal": self.hydra.get("algorithm.causal"),
            }
        latent = self.hydra.get("algorithm.z_shape")
        if not isinstance(latent, list) or len(latent) != 1:
            raise ExportError(f"algorithm.z_shape: expected a list of one number, found {latent!r}")
        network = self.whole(diffusion + "network_size")
        learned = self.hydra.get("algorithm.learnable_init_z", False)
        encoded = self.task == "planning"
        return {
            "latent_size": latent[0],
            "network_size": network,
            "hidden_size": 32 * network,
            "mlp_layers": self.whole(diffusion + "num_mlp_layers"),
            "gru_layers": self.whole(diffusion + "num_gru_layers"),
            "self_condition": self.hydra.get(diffusion + "self_condition", False),
            "initial": "encoded" if encoded else "learned" if learned else "zero",
        }

    def diffusion(self) -> dict:
        place = "algorithm.diffusion."
        usual = {"start": -3, "end": 3, "tau": 1, "s": 0.008}
        arguments = self.hydra.get(place + "schedule_fn_kwargs", None) or {}
        if not isinstance(arguments, dict) or any(usual.get(k) != v for k, v in arguments.items()):
            raise ExportError(
                f"{place}schedule_fn_kwargs: not supported, the noise schedules have their usual "
                f"arguments here; found {arguments!r}"
            )
        return {
            "levels": self.whole(place + "timesteps"),
            "objective": self.one_of(place + "objective", OBJECTIVES),
            "schedule": self.hydra.get(place + "beta_schedule"),
            "clip_noise": self.number(place + "clip_noise", 20),
        }

    def fields(self) -> list[dict]:
        if self.state.mean is None or self.state.std is None:
            raise ExportError("data_mean and data_std are missing in the state_dict")
        C = self.state.mean.size
        names = (
            self.planning_names(C)
            if self.task == "planning"
            else [f"series_{i + 1}" for i in range(C)]
        )
        if self.state.mean.ndim != 1 or self.state.std.shape != self.state.mean.shape:
            raise ExportError(
                f"data_mean, data_std: expected one number per field, found shapes "
                f"{list(self.state.mean.shape)} and {list(self.state.std.shape)}"
            )
        stats = zip(self.state.mean, self.state.std)
        return [
            {"name": name, "mean": tidy(mean), "std": tidy(std)}
            for name, (mean, std) in zip(names, stats)
        ]

    def planning_names(self, C: int) -> list[str]:
        """Observation, action, reward; also checks that mean and std are those of the configuration."""
        parts = {"observation": 0, "action": 0}
        if self.hydra.get("algorithm.use_reward", False):
            parts["reward"] = 1
        for key, buffer in (("mean", self.state.mean), ("std", self.state.std)):
            expected = []
            for part in parts:
                place = f"algorithm.{part}_{key}"
                values = [self.number(place, math.nan)] if part == "reward" else self.numbers(place)
                parts[part] = len(values)
                expected += values
            found = buffer.ravel().tolist()
            same = len(found) == len(expected) and all(
                math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9) for a, b in zip(found, expected)
            )
            if not same:
                raise ExportError(
                    f"data_{key} in the state_dict is not what the configuration has as "
                    f"{', '.join(f'{part}_{key}' for part in parts)}: does it belong to another run?"
                )
        o, a = parts["observation"], parts["action"]
        self.observations = o
        if o in (2, 4) and a in (0, 2) and "maze" in str(self.hydra.get("algorithm.env_id", "")):
            names = ["x", "y", "vx", "vy"][:o] + ["ax", "ay"][:a]
        else:
            names = [f"observation_{i + 1}" for i in range(o)] + [
                f"action_{i + 1}" for i in range(a)
            ]
        return names + ["reward"] * ("reward" in parts)

    def sampling(self, stack: int) -> dict:
        place = "algorithm.diffusion."
        steps = self.whole(place + "sampling_timesteps", least=1)
        scale = self.number("algorithm.uncertainty_scale", 1)
        sampling = {
            "schedule": "pyramid",
            "steps": steps,
            "uncertainty": min(scale, steps),  # more only adds rows in which nothing happens
            "eta": self.number(place + "ddim_sampling_eta", 0),
        }
        if steps == self.whole(place + "timesteps"):
            sampling["eta"] = 1
            self.notes.append(
                "The official code samples it with all levels, by its ancestral sampler. The defaults here "
                "(all steps, eta 1) draw from the same distribution; `ancestral` gives that very sampler."
            )
        chunk = self.hydra.get("algorithm.chunk_size", None)
        if self.task == "prediction" and chunk == 1:
            sampling[
                "schedule"
            ] = "autoregressive"  # each token is finished before the next one begins
        elif self.task == "prediction" and type(chunk) is int and chunk > 1:
            self.notes.append(
                f"The official code samples it in chunks of {chunk} tokens, one by one."
            )
        if self.branch == "main":
            sampling["schedule"] = self.one_of("algorithm.scheduling_matrix", SCHEDULES)
            sampling["stabilization"] = self.whole(place + "stabilization_level", 0)
        tokens = self.longest(stack)
        return sampling | ({"max_tokens": tokens} if tokens else {})

    def longest(self, stack: int) -> int | None:
        """Tokens of the longest sequence that the run was made for."""
        if self.kind == "transformer":
            return None  # the window
        if self.task == "planning":
            return math.ceil(self.whole("algorithm.episode_len", least=1) / stack)
        facts = self.metadata()
        lengths = [facts.get("context_length"), facts.get("prediction_length")]
        if all(type(n) is int and 0 < n < 1 << 20 for n in lengths):
            return math.ceil(sum(lengths) / stack)
        return None

    def metadata(self) -> dict:
        """The file of facts on the data set of a prediction run, where it lies in the run's folder."""
        place = self.hydra.get("algorithm.metadata", None)
        if self.folder is None or not isinstance(place, str) or not (self.folder / place).is_file():
            return {}
        try:
            facts = json.loads((self.folder / place).read_text())
        except (ValueError, RecursionError) as error:
            raise ExportError(f"{self.folder / place}: not JSON: {error}") from error
        return facts if isinstance(facts, dict) else {}

    def conditions(self, count: int, series: int) -> list[str]:
        """Names of the conditions of a frame: as the data set makes them, if its facts are here."""
        facts = self.metadata()
        lags, time = facts.get("lags_seq"), facts.get("time_features_dim")
        if self.task == "prediction" and isinstance(lags, list) and type(time) is int:
            names = [f"lag_{lag}_series_{c + 1}" for c in range(series) for lag in lags if lag > 1]
            names += [f"embedding_series_{c + 1}" for c in range(series)]
            rest = count - len(names)
            if rest in (time, 2 * time):
                return names + [f"time_{i + 1}" for i in range(rest)]
        return [f"condition_{i + 1}" for i in range(count)]
