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

# ---- What the command does not know yet: to be switched on as it learns it --------------------------
KINDS = ("rnn",)  # of networks; then "transformer" too
FORMATS = ("f32", "f16")  # of weights; then "int8" too
UNKNOWN_KEYS = ("observation", "view")  # of config.json; then ()
VERIFIES = False  # then True: `forcing verify OUT`
# ------------------------------------------------------------------------------------------------------


@unittest.skipUnless(os.environ.get("FORCING") or shutil.which(FORCING), "no command forcing")
class Command(Case):
    def forcing(self, *arguments: object) -> str:
        command = [FORCING, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def exports(self):
        """Folders with every run and format that the command knows, and their configs."""
        for run in VECTOR_RUNS:
            for form in FORMATS:
                out = self.folder / f"{run}-{form}"
                config = self.export(run_file(run), out, "--weights", form)
                if config["denoiser"]["kind"] not in KINDS:
                    continue
                if UNKNOWN_KEYS:
                    tensors, metadata = read_safetensors(out / "model.safetensors")
                    known = {key: v for key, v in config.items() if key not in UNKNOWN_KEYS}
                    metadata["config"] = json.dumps(known)
                    (out / "model.safetensors").write_bytes(write.safetensors(tensors, metadata))
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
                scaled = "observation" not in UNKNOWN_KEYS  # data units, else those of the network
                fields = config["observation"]["fields"]
                values = [field["mean"] * scaled for field in fields]
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

    @unittest.skipUnless(VERIFIES, "the command has no `verify` yet")
    def test_verify(self) -> None:
        for out, _ in self.exports():
            self.forcing("verify", out)
