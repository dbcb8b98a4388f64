"""Whole exports: from each kind of source, in each format, and the mistakes one can make."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import df_export
from df_export import networks

from .support import (
    CHECKPOINTS,
    VECTOR_RUNS,
    Case,
    read_safetensors,
    run_file,
    state_of,
    weights_of,
)

FILES = ["README.md", "config.json", "model.safetensors", "reference.safetensors"]
# What the tensors do not tell.
SIZES = {
    "planning_paper": {
        "diffusion": {"objective": "x0"},
        "tokens": {"frame_stack": 4, "fields": [{"name": n} for n in ("x", "y", "vx", "vy", "ax", "ay")]},
    },
    "prediction_paper": {"diffusion": {"objective": "v"}},
    "planning_main": {
        "denoiser": {"heads": 4, "window": 9, "causal": False},
        "diffusion": {"objective": "x0"},
        "tokens": {"frame_stack": 5, "fields": [{"name": "x"}, {"name": "y"}]},
    },
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Official(Case):
    def test_config_of_planning_of_branch_paper(self) -> None:
        config = self.export(run_file("planning_paper"), self.out)
        self.assertEqual(config["name"], "planning_paper")
        self.assertEqual(
            config["denoiser"],
            {
                "kind": "rnn",
                "token_size": 24,
                "latent_size": 32,
                "network_size": 4,
                "hidden_size": 128,
                "mlp_layers": 2,
                "gru_layers": 1,
                "condition_size": 0,
                "self_condition": False,
                "stop_head": False,
                "initial": "encoded",
                "observation_size": 4,
            },
        )
        self.assertEqual(
            config["diffusion"],
            {"levels": 1000, "objective": "x0", "schedule": "linear", "clip_noise": 20},
        )
        fields = config["tokens"]["fields"]
        self.assertEqual([f["name"] for f in fields], ["x", "y", "vx", "vy", "ax", "ay"])
        self.assertEqual(np.float32(fields[0]["mean"]), np.float32(3.5092521))
        self.assertEqual(np.float32(fields[5]["std"]), np.float32(0.7459419))
        self.assertEqual(config["observation"]["fields"], fields[:4])
        self.assertEqual(
            config["sampling"],
            {
                "schedule": "pyramid",
                "steps": 10,
                "uncertainty": 1,
                "eta": 0,
                "stabilization": 0,
                "max_tokens": 10,
            },
        )
        self.assertEqual(config["view"], {"kind": "path", "x": "x", "y": "y"})

    def test_config_of_prediction(self) -> None:
        config = self.export(run_file("prediction_paper"), self.out)
        self.assertEqual(config["denoiser"]["condition_size"], 12)
        self.assertEqual((config["denoiser"]["mlp_layers"], config["denoiser"]["gru_layers"]), (1, 4))
        self.assertEqual(
            [f["name"] for f in config["tokens"]["fields"]], [f"series_{i}" for i in (1, 2, 3, 4)]
        )
        names = config["condition"]["fields"]
        self.assertEqual(names[::4], ["lag_2_series_1", "embedding_series_1", "time_1"])
        self.assertEqual(len(names), 12)
        # chunk_size 1: one token after the other; 6 frames of context and 6 to predict.
        self.assertEqual(config["sampling"]["schedule"], "autoregressive")
        self.assertEqual((config["sampling"]["eta"], config["sampling"]["max_tokens"]), (1, 12))
        self.assertNotIn("embed.weight", weights_of(self.out))
        self.assertIn("embed.weight", (self.out / "README.md").read_text())

    def test_config_of_planning_of_branch_main(self) -> None:
        config = self.export(run_file("planning_main"), self.out)
        self.assertEqual(
            config["denoiser"],
            {
                "kind": "transformer",
                "token_size": 10,
                "network_size": 48,
                "layers": 3,
                "hidden_size": 96,
                "condition_size": 0,
                "stop_head": False,
                "heads": 4,
                "window": 9,
                "causal": False,
            },
        )
        self.assertEqual(config["sampling"]["stabilization"], 10)
        self.assertEqual(config["sampling"]["max_tokens"], 9)
        self.assertEqual([f["name"] for f in config["tokens"]["fields"]], ["x", "y"])

    def test_both_configurations_and_a_second_run_give_the_same_bytes(self) -> None:
        for run in VECTOR_RUNS:
            first, second, third = (self.folder / f"{run}{i}" for i in range(3))
            self.export(run_file(run), first)
            self.export(run_file(run), second, "--config", CHECKPOINTS / run / ".hydra/config.yaml")
            written = CHECKPOINTS / run / ".hydra/config.as_written.yaml"
            self.export(run_file(run), third, "--config", written)
            self.assertEqual(sorted(contents(first)), FILES)
            self.assertEqual(contents(first), contents(second))
            self.assertEqual(contents(first), contents(third))

    def test_a_lone_file(self) -> None:
        for run in VECTOR_RUNS:
            lone = shutil.copy(run_file(run), self.folder / "model.ckpt")
            self.assert_refused("give --config", lone, self.folder / run)
            config = shutil.copy(CHECKPOINTS / run / ".hydra/config.yaml", self.folder / "config.yaml")
            self.export(lone, self.folder / run, "--config", config, "--name", "lone")
            self.assertEqual(self.check_weights(self.folder / run, run)["name"], "lone")

    def check_weights(self, folder: Path, run: str) -> dict:
        """The model file holds the run's weights under their own names, and the config."""
        state = state_of(run)
        weights = weights_of(folder)
        for name, weight in weights.items():
            prefixes = ("transition_model.", "diffusion_model.", "")
            source = next(p + name for p in prefixes if p + name in state)
            self.assertTrue(np.array_equal(weight, state.pop(source).numpy()), name)
        left = {name.rpartition(".")[2] for name in state}
        self.assertLess(len(left), 19)
        self.assertFalse([n for n in state if ".model." in n or "init_" in n or "x_from_z" in n])
        text = read_safetensors(folder / "model.safetensors")[1]["config"]
        self.assertEqual(text, (folder / "config.json").read_text())
        return json.loads(text)


class Formats(Case):
    def test_weights_in_all_formats(self) -> None:
        for run in VECTOR_RUNS:
            exact = None
            for form in ("f32", "f16", "int8"):
                out = self.folder / f"{run}-{form}"
                self.export(run_file(run), out, "--weights", form)
                tensors, _ = read_safetensors(out / "model.safetensors")
                weights = weights_of(out)
                exact = exact or weights
                self.check_format(form, tensors, weights, exact)
                self.check_reference(out, form)

    def check_format(self, form: str, tensors: dict, weights: dict, exact: dict) -> None:
        self.assertEqual(sorted(weights), sorted(exact))
        for name, weight in exact.items():
            large = weight.ndim == 2 and weight.size >= 16384
            kind = {"f32": "float32", "f16": "float16", "int8": "int8" if large else "float32"}[form]
            self.assertEqual(tensors[name].dtype.name, kind, name)
            if kind == "float32":
                self.assertTrue(np.array_equal(weights[name], weight))
            elif kind == "float16":
                self.assertTrue(np.array_equal(tensors[name], weight.astype(np.float16)))
            else:
                scale = tensors[name + ".scale"]
                self.assertTrue(np.array_equal(scale, np.abs(weight).max(1) / np.float32(127)))
                self.assertEqual(np.abs(tensors[name]).max(), 127)
                self.assertTrue((np.abs(weights[name] - weight) <= 0.5001 * scale[:, None]).all())

    def check_reference(self, out: Path, form: str) -> None:
        """The numbers are those of the stored weights."""
        config = json.loads((out / "config.json").read_text())
        denoiser = config["denoiser"]
        tensors, metadata = read_safetensors(out / "reference.safetensors")
        self.assertEqual(metadata["format"], "diffusion-forcing-reference/1")
        self.assertEqual(metadata["weights"], form)
        numerics = json.loads(metadata["numerics"])
        self.assertEqual(sorted(numerics), sorted(n for n in tensors if n.startswith("out.")))
        rnn = denoiser["kind"] == "rnn"
        outputs = ["output", "z", "z0"] if rnn else ["output"]
        expected = [f"out.{name}" for name in [*outputs, "frames"]] + ["in.x", "in.level"]
        expected += ["in.cond"] * bool(denoiser["condition_size"])
        expected += ["in.observation"] * bool(denoiser.get("observation_size"))
        expected += [f"f32.{name}" for name in outputs] if form != "f32" else []
        self.assertEqual(sorted(tensors), sorted(expected))
        x, level = tensors["in.x"], tensors["in.level"]
        self.assertEqual((level.min(), level.max()), (1, config["diffusion"]["levels"]))
        self.assertEqual(x.shape[1], denoiser.get("window", 8))
        network = networks.build(denoiser)
        network.load_state_dict({n: torch.from_numpy(w.copy()) for n, w in weights_of(out).items()})
        given = {n: torch.from_numpy(tensors[f"in.{n}"].copy()) for n in ("x", "level")}
        given["level"] = given["level"] - 1
        if "in.cond" in tensors:
            given["cond"] = torch.from_numpy(tensors["in.cond"].copy())
        with torch.no_grad():
            if rnn:
                z = torch.from_numpy(tensors["out.z0"].copy())
                for t in range(x.shape[1]):
                    output, z = network(z=z, **{n: v[:, t] for n, v in given.items()})
                    for name, value in (("output", output), ("z", z)):
                        self.assert_close(value, tensors[f"out.{name}"][:, t], numerics[f"out.{name}"], name)
            else:
                self.assert_close(network(**given), tensors["out.output"], numerics["out.output"], "output")

    def test_too_large_for_f16(self) -> None:
        state = state_of("planning_main")
        state["diffusion_model.model.out.bias"][3] = 7e4
        torch.save(state, self.folder / "state.pt")
        (self.folder / "sizes.json").write_text(json.dumps(SIZES["planning_main"]))
        given = (self.folder / "state.pt", self.out, "--config", self.folder / "sizes.json")
        self.assert_refused("model.out.bias: 70000 is too large for f16", *given, "--weights", "f16")
        state["diffusion_model.model.out.bias"][3] = float("nan")
        torch.save(state, self.folder / "state.pt")
        self.assert_refused("model.out.bias: an entry is not finite", *given)


class OtherSources(Case):
    """A bare state_dict with a JSON of sizes, and a module."""

    def test_a_bare_state_dict_with_sizes(self) -> None:
        for run, sizes in SIZES.items():
            official = self.folder / f"{run}-official"
            self.export(run_file(run), official)
            plain = state_of(run)
            prefix = "diffusion_model." if run == "planning_main" else "transition_model."
            forms = {
                "as it is": plain,
                "compiled": {n.replace(".model.", "._orig_mod.model.", 1): t for n, t in plain.items()},
                "without prefix": {n.removeprefix(prefix): t for n, t in plain.items()},
            }
            (self.folder / "sizes.json").write_text(json.dumps(sizes))
            for form, state in forms.items():
                torch.save(state, self.folder / "state.pt")
                out = self.folder / f"{run}-{form}"
                config = self.export(self.folder / "state.pt", out, "--config", self.folder / "sizes.json")
                expected = json.loads((official / "config.json").read_text())
                for part in ("denoiser", "diffusion"):
                    self.assertEqual(config[part], expected[part], (run, form))
                scale = [(f["mean"], f["std"]) for f in expected["tokens"]["fields"]]
                self.assertEqual([(f["mean"], f["std"]) for f in config["tokens"]["fields"]], scale)
                found, wanted = weights_of(out), weights_of(official)
                self.assertEqual(list(found), list(wanted))
                self.assertTrue(all(np.array_equal(found[n], wanted[n]) for n in wanted))

    def test_the_example_of_the_readme(self) -> None:
        text = (Path(df_export.__file__).parent / "README.md").read_text()
        example = text.partition("```python\n")[2].partition("```")[0]
        self.assertIn("df_export.export(", example)
        (self.folder / "example.py").write_text(example)
        environment = {"PYTHONPATH": str(Path(df_export.__file__).parents[1]), "PATH": ""}
        subprocess.run(
            [sys.executable, "example.py"], cwd=self.folder, env=environment, check=True, timeout=60
        )
        config = json.loads((self.folder / "walker/config.json").read_text())
        self.assertEqual(config["denoiser"]["kind"], "transformer")
        _, metadata = read_safetensors(self.folder / "walker/reference.safetensors")
        self.assertIn("the author's module", metadata["source"])
        self.assertLess(json.loads(metadata["numerics"])["out.output"][1], 1e-4)

    def network(self, run: str = "planning_main") -> tuple[torch.nn.Module, dict]:
        config = self.export(run_file(run), self.folder / run)
        network = networks.build(config["denoiser"])
        weights = weights_of(self.folder / run)
        network.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
        return network, config

    def test_a_module_is_run_for_the_reference(self) -> None:
        for run in ("planning_main", "prediction_paper"):
            network, config = self.network(run)
            calls = []
            network.register_forward_hook(lambda *_: calls.append(1))
            for form in ("f32", "int8"):
                df_export.export(network.double().train(), config, self.folder / f"{run}{form}", weights=form)
                found, _ = read_safetensors(self.folder / f"{run}{form}" / "reference.safetensors")
                if form == "f32":
                    wanted, _ = read_safetensors(self.folder / run / "reference.safetensors")
                    self.assertTrue(all(np.array_equal(found[name], wanted[name]) for name in wanted))
            self.assertTrue(network.training)
            self.assertEqual(next(network.parameters()).dtype, torch.float64)

    def test_a_module_that_computes_something_else_is_refused(self) -> None:
        class Other(type(self.network()[0])):
            def forward(self, x, level, cond=None):
                return super().forward(x, level, cond) * 1.01

        network, config = self.network_of(Other)
        with self.assertRaisesRegex(df_export.ExportError, "the module computes something else"):
            df_export.export(network, config, self.out)
        self.assertFalse(self.out.exists())

    def network_of(self, kind: type) -> tuple[torch.nn.Module, dict]:
        config = json.loads((self.folder / "planning_main/config.json").read_text())
        network = kind(config["denoiser"])
        weights = weights_of(self.folder / "planning_main")
        network.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
        return network, config

    def test_other_names_and_another_signature(self) -> None:
        network, config = self.network()

        class Wrapper(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = network

            def forward(self, batch):
                raise AssertionError("not called")

        df_export.export(Wrapper(), config, self.out, rename=lambda name: name.removeprefix("net."))
        _, metadata = read_safetensors(self.out / "reference.safetensors")
        self.assertIn("networks of df_export", metadata["source"])
        with self.assertRaisesRegex(df_export.ExportError, "two tensors get the same name"):
            df_export.export(Wrapper(), config, self.folder / "b", rename=lambda name: "x")
        with self.assertRaisesRegex(df_export.ExportError, "expected a path, a module or a state_dict"):
            df_export.export(3, config, self.folder / "b")


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
