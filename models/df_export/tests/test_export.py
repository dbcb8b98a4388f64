"""Whole exports of runs of the official code, in each format."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from df_export import networks

from .support import (
    CHECKPOINTS,
    SIZES,
    VECTOR_RUNS,
    Case,
    contents,
    read_safetensors,
    run_file,
    state_of,
    weights_of,
)

FILES = ["README.md", "config.json", "model.safetensors", "reference.safetensors"]


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
            self.export(lone, self.folder / run, "--config", config, "--name", "lone", "--license", "CC0")
            self.assertIn("## Licence\n\nCC0\n", (self.folder / run / "README.md").read_text())
            config = self.check_weights(self.folder / run, run)
            self.assertEqual((config["name"], config["license"]), ("lone", "CC0"))

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
