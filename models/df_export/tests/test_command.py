"""The command `forcing` reads what is exported.

It is the one that the environment names as FORCING, else the build in build/native; without either
these tests are skipped.
"""

import json
import os
import shutil
import subprocess
import unittest
from pathlib import Path

import numpy as np

from df_export import write

from .support import VECTOR_RUNS, Case, read_safetensors, run_file

FORCING = os.environ.get("FORCING") or str(Path(__file__).parents[3] / "build/native/forcing")

FORMATS = ("f32", "f16", "int8")
CHECK_IMPORT = str(Path(FORCING).with_name("check_import"))


@unittest.skipUnless(os.environ.get("FORCING") or shutil.which(FORCING), "no command forcing")
class Command(Case):
    def forcing(self, *arguments: object) -> str:
        command = [FORCING, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def exports(self):
        """Folders with every run and format, and their configs."""
        for run in VECTOR_RUNS:
            for form in FORMATS:
                out = self.folder / f"{run}-{form}"
                config = self.export(run_file(run), out, "--weights", form)
                with self.subTest(run=run, weights=form):
                    yield out, config

    def test_info(self) -> None:
        for out, config in self.exports():
            told = self.forcing("info", out)
            self.assertIn(config["name"], told)
            self.assertIn(config["denoiser"]["kind"], told)

    def test_sample_in_data_units(self) -> None:
        for out, config in self.exports():
            denoiser, sampling = config["denoiser"], config["sampling"]
            more = []
            if denoiser["condition_size"]:
                conditions = np.zeros((sampling["max_tokens"], denoiser["condition_size"]), np.float32)
                np.save(self.folder / "conditions.npy", conditions)
                more += ["--condition", self.folder / "conditions.npy"]
            if denoiser.get("observation_size"):
                values = [field["mean"] for field in config["observation"]["fields"]]
                np.save(self.folder / "observation.npy", np.array(values, np.float32))
                more += ["--observe", self.folder / "observation.npy"]
            sampled = json.loads(self.forcing("sample", out, "--count", 3, *more))
            fields = config["tokens"]["fields"]
            self.assertEqual(sampled["fields"], [field["name"] for field in fields])
            for key in ("schedule", "steps", "eta", "stabilization"):
                self.assertEqual(sampled["sampling"][key], sampling[key])
            frames = np.array([sequence["frames"] for sequence in sampled["sequences"]])
            length = sampling["max_tokens"] * config["tokens"]["frame_stack"]
            self.assertEqual(frames.shape, (3, length, len(fields)))
            away = (frames - [f["mean"] for f in fields]) / [f["std"] for f in fields]
            self.assertLess(np.abs(away).max(), 10)
            self.assertGreater(frames.std(), 0)

    def test_verify(self) -> None:
        for out, _ in self.exports():
            told = self.forcing("verify", out)
            self.assertIn("ok: the model computes what PyTorch did", told)

    def test_verify_finds_a_changed_weight(self) -> None:
        out = self.folder / "changed"
        self.export(run_file("planning_main"), out)
        tensors, metadata = read_safetensors(out / "model.safetensors")
        name = "model.transformer.layers.1.linear2.weight"
        tensors[name] = tensors[name].copy()
        tensors[name][3, 5] += 0.01
        (out / "model.safetensors").write_bytes(write.safetensors(tensors, metadata))
        done = subprocess.run([FORCING, "verify", out], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)

    def test_runs_are_those_of_the_official_code(self) -> None:
        """Steps and whole runs, in data units, against expected.safetensors."""
        for run in VECTOR_RUNS:
            with self.subTest(run=run):
                out = self.folder / run
                self.export(run_file(run), out)
                expected = run_file(run).parents[1] / "expected"
                done = subprocess.run(
                    [CHECK_IMPORT],
                    env={**os.environ, "MODEL": str(out / "model.safetensors"), "EXPECTED": str(expected)},
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                self.assertEqual(done.returncode, 0, done.stderr)
