"""The networks give the numbers of the official classes."""

import json

import numpy as np
import torch

from df_export import networks, noise, reference

from .support import CHECKPOINTS, Case, read_safetensors, run_file, weights_of


class Expected(Case):
    def load(self, run: str) -> None:
        self.config = self.export(run_file(run), self.out)
        self.network = networks.build(self.config["denoiser"])
        weights = {name: torch.from_numpy(w.copy()) for name, w in weights_of(self.out).items()}
        self.network.load_state_dict(weights, strict=True)
        self.tensors, metadata = read_safetensors(CHECKPOINTS / run / "expected.safetensors")
        self.numerics = json.loads(metadata["numerics"])
        diffusion = self.config["diffusion"]
        self.K, self.S = diffusion["levels"], self.config["sampling"]["steps"]
        exact = noise.tables(diffusion["schedule"], self.K)["alphas_cumprod"]
        # Each table is rounded to float32 on its own. One entry more: level -1 is clean.
        self.abar = np.append(exact, 1).astype(np.float32)
        self.root = np.append(np.sqrt(exact), 1).astype(np.float32)
        self.root_1m = np.append(np.sqrt(1 - exact), 0).astype(np.float32)
        self.recip = np.append(np.sqrt(1 / exact), 1).astype(np.float32)
        self.recip_m1 = np.append(np.sqrt(1 / exact - 1), 0).astype(np.float32)

    def given(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.tensors[name].copy())

    def check(self, name: str, found) -> None:
        self.assert_close(found, self.tensors[name], self.numerics[name], name)

    def x0_and_noise(self, x: np.ndarray, output: np.ndarray, level) -> tuple[np.ndarray, np.ndarray]:
        objective = self.config["diffusion"]["objective"]
        x0 = output if objective == "x0" else self.root[level] * x - self.root_1m[level] * output
        self.assertIn(objective, ("x0", "v"))
        return x0, (self.recip[level] * x - x0) / self.recip_m1[level]

    def check_recurrent_steps(self) -> None:
        clip = np.float32(self.config["diffusion"]["clip_noise"])
        levels = [self.K * i // self.S - 1 for i in range(self.S, -1, -1)]
        results = {"x_next": [], "x_start": [], "z_next": []}
        for i in self.tensors["in.step.index"]:
            now, then = levels[i], levels[i + 1]
            x = self.tensors["in.step.x"]
            x = np.clip(x, -clip, clip) if i == 0 else x
            cond = self.given("in.step.external_cond") if "in.step.external_cond" in self.tensors else None
            level = torch.full((len(x),), now)
            with torch.no_grad():
                output, z = self.network(torch.from_numpy(x.copy()), level, self.given("in.step.z"), cond)
            x0, e = self.x0_and_noise(x, output.numpy(), now)
            x_next = np.sqrt(self.abar[then]) * x0 + np.sqrt(1 - self.abar[then]) * e
            for key, value in zip(results, (x0 if then < 0 else x_next, x0, z.numpy())):
                results[key].append(value)
        for key, values in results.items():
            self.check(f"out.step.{key}", np.stack(values))
            if key != "z_next":
                self.check(f"out.step.{key}_data", reference.decode(self.config, np.stack(values)))

    def test_planning_of_branch_paper(self) -> None:
        self.load("planning_paper")
        self.check_recurrent_steps()

    def test_prediction_of_branch_paper(self) -> None:
        self.load("prediction_paper")
        self.check_recurrent_steps()

    def test_encoder_of_the_observation_in_data_units(self) -> None:
        self.load("planning_paper")
        mean, std = (torch.from_numpy(s) for s in reference.observation_scale(self.config))
        with torch.no_grad():
            z0 = self.network.start(2, (self.given("in.run.obs") - mean) / std)
        self.check("out.run.z0", z0.numpy())

    def test_planning_of_branch_main(self) -> None:
        self.load("planning_main")
        x, before, after = (self.tensors[f"in.step.{key}"] for key in ("x", "from", "to"))
        real, then = self.K * before // self.S - 1, self.K * after // self.S - 1
        # Finished tokens enter at the stabilisation level, scaled.
        now = np.where(real < 0, self.config["sampling"]["stabilization"] - 1, real)
        scaled = np.where((real < 0)[..., None], self.root[now][..., None] * x, x)
        with torch.no_grad():
            output = self.network(
                torch.from_numpy(scaled).transpose(0, 1), torch.from_numpy(now).transpose(0, 1)
            )
        x0, e = self.x0_and_noise(scaled, output.transpose(0, 1).numpy(), now[..., None])
        a = self.abar[then][..., None]  # 1 where the token becomes clean
        stepped = np.sqrt(a) * x0 + np.sqrt(1 - a) * e
        x_next = np.where((real == then)[..., None], x, stepped)
        self.check("out.step.x_start", x0)
        self.check("out.step.x_next", x_next)
        self.check("out.step.x_next_data", reference.decode(self.config, x_next))

    def test_a_causal_transformer_does_not_see_later_tokens(self) -> None:
        sizes = {
            "kind": "transformer",
            "token_size": 3,
            "network_size": 16,
            "layers": 2,
            "heads": 2,
            "hidden_size": 8,
            "condition_size": 2,
        }
        torch.manual_seed(0)
        for causal in (True, False):
            network = networks.build(sizes | {"causal": causal})
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter)
            x, level, cond = torch.randn(1, 5, 3), torch.randint(0, 9, (1, 5)), torch.randn(1, 5, 2)
            changed = x.clone()
            changed[0, 3] += 1
            with torch.no_grad():
                same = network(x, level, cond) == network(changed, level, cond)
            self.assertEqual(bool(same[0, :3].all()), causal)
            self.assertFalse(bool(same[0, 3:].any()))


class Tables(Case):
    def test_each_schedule_matches_its_own_tables_only(self) -> None:
        for levels in (100, 1000):
            for schedule in noise.SCHEDULES:
                tables = {k: v.astype(np.float32) for k, v in noise.tables(schedule, levels).items()}
                matching = [name for name in noise.SCHEDULES if noise.matches(name, levels, tables)]
                self.assertEqual(matching, [schedule])
