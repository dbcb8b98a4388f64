"""What one can get wrong: one line for each, and nothing left behind."""

import json
import shutil
import subprocess
import sys

import torch

from .support import CHECKPOINTS, SIZES, VECTOR_RUNS, Case, contents, run_file, state_of


class Mistakes(Case):
    def test_the_output_folder(self) -> None:
        run = run_file("planning_main")
        self.out.mkdir()
        self.export(run, self.out)  # an empty folder is fine
        before = contents(self.out)
        self.assert_refused("is not empty", run, self.out)
        (self.out / "config.json").write_text("mine")
        (self.out / "picture.svg").write_text("mine")
        bad = CHECKPOINTS / "malformed/bad_global.ckpt"
        self.assert_refused("posix.getcwd", bad, self.out, "--force")
        self.assertEqual((self.out / "config.json").read_text(), "mine")
        self.export(run, self.out, "--force")
        self.assertEqual(contents(self.out), before | {"picture.svg": b"mine"})
        self.assert_refused("expected a folder, found a file", run, self.out / "config.json", "--force")
        self.assert_refused("expected a folder to make it in", run, self.folder / "no/where")
        self.assert_refused(
            "weights: expected one of f32, f16, int8", run, self.folder / "b", "--weights", "q4"
        )

    def test_the_command_as_a_process(self) -> None:
        def run(*arguments: object) -> subprocess.CompletedProcess:
            command = [sys.executable, "-m", "df_export", *map(str, arguments)]
            folder = CHECKPOINTS.parents[2]
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)

        good = run(run_file("planning_main"), self.out)
        self.assertEqual((good.returncode, good.stderr), (0, ""))
        self.assertIn("planning_main, transformer", good.stdout)
        bad = run(CHECKPOINTS / "malformed/truncated.ckpt", self.folder / "bad")
        self.assertEqual((bad.returncode, bad.stdout), (1, ""))
        self.assertRegex(bad.stderr, r"\Adf_export: [^\n]+\n\Z")
        self.assertEqual(list(self.folder.iterdir()), [self.out])

    def test_misuse_is_one_line_with_status_2(self) -> None:
        for arguments in ((), (run_file("planning_main"),), ("a", "b", "--what")):
            status, errors = self.command(*arguments)
            self.assertEqual(status, 2)
            self.assertRegex(errors, r"\Adf_export: [^\n]+\n\Z")

    def test_a_configuration_of_another_run(self) -> None:
        for run in VECTOR_RUNS:
            for other in set(VECTOR_RUNS) - {run}:
                config = CHECKPOINTS / other / ".hydra/config.yaml"
                self.assert_refused("config.yaml", run_file(run), self.out, "--config", config)

    def test_a_configuration_that_does_not_fit(self) -> None:
        for run, change, words in (
            (
                "planning_main",
                ("attn_heads: 4", "attn_heads: 5"),
                "heads: expected a divisor of the width 48",
            ),
            ("planning_main", ("attn_heads: 4", "attn_heads: x"), "attn_heads: expected a whole number"),
            ("planning_main", ("network_size: 48", "network_size: 64"), "says 64, the tensors have 48"),
            ("planning_main", ("num_layers: 3", "num_layers: 4"), "says 4, the tensors have 3"),
            (
                "planning_main",
                ("beta_schedule: linear", "beta_schedule: cosine"),
                "tables are those of 'linear'",
            ),
            ("planning_main", ("timesteps: 1000", "timesteps: 500"), "says 500, the noise tables have 1000"),
            (
                "planning_main",
                ("schedule_fn_kwargs: {}", "schedule_fn_kwargs: {tau: 0.5}"),
                "schedule_fn_kwargs: not supported",
            ),
            (
                "planning_main",
                ("causal: false", "causal: maybe"),
                "denoiser.causal: expected one of true, false",
            ),
            ("planning_main", ("frame_stack: 5", "frame_stack: 3"), "cannot be cut into 3 frames"),
            ("planning_main", ("frame_stack: 5", "frame_stack: 2"), "leaves 5"),
            (
                "planning_main",
                ("objective: pred_x0", "objective: pred_y"),
                "objective: expected one of pred_x0",
            ),
            ("planning_main", ("- 3.5092521", "- 3.6"), "data_mean in the state_dict is not what"),
            (
                "planning_main",
                ("scheduling_matrix: pyramid", "scheduling_matrix: spiral"),
                "scheduling_matrix: exp",
            ),
            (
                "planning_main",
                ("sampling_timesteps: 10", "sampling_timesteps: 1001"),
                "sampling.steps: expected a",
            ),
            ("planning_main", ("sampling_timesteps: 10", "sampling_timesteps: ???"), "found ???"),
            ("planning_main", ("  objective: pred_x0\n", "  objective: &a pred_x0\n"), "line "),
            ("planning_main", ("dim_feedforward: 96", "no_feedforward: 96"), "dim_feedforward: is missing"),
            ("planning_paper", ("- 32\n", "- 64\n"), "says 64, the tensors have 32"),
            ("planning_paper", ("num_mlp_layers: 2", "num_mlp_layers: 1"), "says 1, the tensors have 2"),
            ("planning_paper", ("learnable_init_z: false", "learnable_init_z: 0"), None),
            (
                "prediction_paper",
                ("external_cond_dim: 12", "external_cond_dim: 0"),
                "says 0, the tensors have 12",
            ),
            ("prediction_paper", ("num_gru_layers: 4", "num_gru_layers: 2"), "says 2, the tensors have 4"),
            ("prediction_paper", ("self_condition: false", "self_condition: true"), "says True, the tensors"),
            (
                "prediction_paper",
                ("clip_noise: 20.0", "clip_noise: -1"),
                "clip_noise: expected a number from",
            ),
        ):
            text = (CHECKPOINTS / run / ".hydra/config.yaml").read_text()
            self.assertIn(change[0], text)
            config = self.folder / "config.yaml"
            config.write_text(text.replace(*change))
            given = (run_file(run), self.out, "--config", config)
            with self.subTest(run=run, change=change[1]):
                if words is None:
                    self.export(*given)
                    shutil.rmtree(self.out)
                else:
                    self.assert_refused(words, *given)

    def test_a_configuration_that_is_no_text(self) -> None:
        (self.folder / "config.yaml").write_bytes(b"a: \xff\n")
        given = (run_file("planning_main"), self.out, "--config")
        self.assert_refused("expected text in UTF-8", *given, self.folder / "config.yaml")
        self.assert_refused("No such file", *given, self.folder / "none.yaml")
        self.assert_refused("No such file", *given, self.folder / "none.json")

    def test_all_levels_as_steps(self) -> None:
        text = (CHECKPOINTS / "planning_main/.hydra/config.yaml").read_text()
        (self.folder / "config.yaml").write_text(
            text.replace("sampling_timesteps: 10", "sampling_timesteps: 1000")
        )
        config = self.export(run_file("planning_main"), self.out, "--config", self.folder / "config.yaml")
        self.assertEqual((config["sampling"]["steps"], config["sampling"]["eta"]), (1000, 1))
        self.assertIn("ancestral", (self.out / "README.md").read_text())

    def test_sizes_that_do_not_fit(self) -> None:
        torch.save(state_of("planning_main"), self.folder / "state.pt")
        good = SIZES["planning_main"]
        deep = "[" * 100000
        for sizes, words in (
            ({}, "denoiser.heads is missing, and the tensors do not tell it"),
            ({**good, "format": "other/2"}, "format: expected 'diffusion-forcing/1'"),
            ({**good, "extra": 1}, "extra: no such key"),
            ({**good, "denoiser": 3}, "denoiser: expected an object"),
            ({**good, "denoiser": {**good["denoiser"], "heads": 7}}, "expected a divisor of the width 48"),
            ({**good, "denoiser": {**good["denoiser"], "kind": "rnn"}}, "says 'rnn', the tensors have 'tr"),
            ({**good, "denoiser": {**good["denoiser"], "latent_size": 3}}, "latent_size: no such key"),
            ({**good, "diffusion": {"objective": "y"}}, "objective: expected one of x0, eps, v"),
            ({**good, "diffusion": {}}, "diffusion.objective is missing"),
            ({**good, "diffusion": {"objective": "x0", "levels": 999}}, "the noise tables have 1000"),
            ({**good, "diffusion": {"objective": "x0", "schedule": "sigmoid"}}, "those of 'linear'"),
            ({**good, "tokens": {"frame_stack": 5, "fields": [{"name": "x"}]}}, "says 1, a token of 10"),
            (
                {**good, "tokens": {"frame_stack": 5, "fields": [{"name": "x", "mean": 1}, {"name": "y"}]}},
                "mean of x",
            ),
            ({**good, "tokens": {"frame_stack": 5, "fields": ["x", "y"]}}, "expected an object with a name"),
            (
                {**good, "tokens": {"frame_stack": 5, "fields": [{"name": "x", "scale": 1}]}},
                "scale: no such key",
            ),
            ({**good, "sampling": {"steps": 0}}, "sampling.steps: expected a whole number from 1 to 1000"),
            ({**good, "sampling": {"uncertainty": True}}, "sampling.uncertainty: expected a number"),
            ({**good, "sampling": {"grid": "fitted"}}, "fitted_grid: expected rising levels from 0 to 1000"),
            ({**good, "sampling": {"fitted_grid": [0, 5, 5, 1000]}}, "fitted_grid: expected rising"),
            ({**good, "training": {"loss": float("nan")}}, "cannot be written as JSON"),
            ({**good, "sampling": {"max_tokens": 10}}, "at most its window of 9"),
            ({**good, "condition": {"fields": ["a"]}}, "condition.fields: the configuration says 1"),
            ({**good, "observation": {"fields": [{"name": "a"}]}}, "the network has no init_encoder"),
            (deep, "not JSON"),
            ("{", "not JSON"),
            ("[]", "expected an object"),
        ):
            path = self.folder / "sizes.json"
            path.write_text(sizes if isinstance(sizes, str) else json.dumps(sizes))
            with self.subTest(words=words):
                self.assert_refused(words, self.folder / "state.pt", self.out, "--config", path)

    def test_tensors_that_are_too_few_or_too_many(self) -> None:
        (self.folder / "sizes.json").write_text(json.dumps(SIZES["planning_main"]))
        layer = "diffusion_model.model.transformer.layers.1."
        changes = {
            "norm1.weight is missing": lambda state: state.pop(layer + "norm1.weight"),
            "bonus is no part of the network": lambda state: state.update({"bonus": torch.ones(2)}),
            "linear1.weight: expected shape [96, 48], found [96, 40]": lambda state: state.update(
                {layer + "linear1.weight": torch.ones(96, 40)}
            ),
            "expected floating-point numbers, found torch.int64": lambda state: state.update(
                {layer + "norm1.weight": torch.ones(48, dtype=torch.int64)}
            ),
            "tables are those of no schedule": lambda state: state["diffusion_model.betas"].mul_(0.5),
            "data_mean: expected shape [2], found [3]": lambda state: state.update(
                {"data_mean": torch.ones(3)}
            ),
            "expected a number from 1e-30": lambda state: state["data_std"].zero_(),
            "network that is known here": lambda state: [
                state.pop(name) for name in list(state) if "init_mlp" in name
            ],
        }
        for words, change in changes.items():
            state = {name: tensor.clone() for name, tensor in state_of("planning_main").items()}
            change(state)
            torch.save(state, self.folder / "state.pt")
            given = (self.folder / "state.pt", self.out, "--config", self.folder / "sizes.json")
            with self.subTest(words=words):
                self.assert_refused(words, *given)

    def test_sizes_that_no_machine_has_the_memory_for(self) -> None:
        state = {
            "x_from_z.weight": torch.zeros(2, 60000),
            "model.time_mlp.1.weight": torch.zeros(4, 4),
            "model.gru_stack.0.weight_ih": torch.zeros(3, 60006),
        }
        torch.save(state, self.folder / "state.pt")
        (self.folder / "sizes.json").write_text(json.dumps(SIZES["prediction_paper"]))
        given = (self.folder / "state.pt", self.out, "--config", self.folder / "sizes.json")
        self.assert_refused("tensor model.time_mlp.1.bias is missing", *given)
        state["model.time_mlp.3.weight"] = torch.zeros(4, 4)
        state |= {f"model.time_mlp.{i}.bias": torch.zeros(4) for i in (1, 3)}
        torch.save(state, self.folder / "state.pt")
        words = "gru_stack.0.weight_ih: expected shape [180000, 60006], found [3, 60006]"
        self.assert_refused(words, *given)
