"""Exports of a bare state_dict with a JSON of sizes, and of a module."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import df_export
from df_export import networks

from .support import (
    SIZES,
    Case,
    read_safetensors,
    run_file,
    state_of,
    weights_of,
)


class Sources(Case):
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
        for words, forward in {
            "its forward failed for x, level: IndexError": lambda x, level: x[99],
            "output has shape": lambda x, level: x[..., 0],
        }.items():
            network.forward = forward
            with self.assertRaisesRegex(df_export.ExportError, words):
                df_export.export(network, config, self.folder / "b")
        with self.assertRaisesRegex(df_export.ExportError, "two tensors get the same name"):
            df_export.export(Wrapper(), config, self.folder / "b", rename=lambda name: "x")
        with self.assertRaisesRegex(df_export.ExportError, "expected a path, a module or a state_dict"):
            df_export.export(3, config, self.folder / "b")
