"""The RNN in all its forms against the golden files of the library: sizes told by tensors, and results."""

import json
from pathlib import Path

import torch

import df_export
from df_export import networks

from .support import Case, read_safetensors

GOLDEN = Path(__file__).parents[3] / "src/tests/golden"
OBJECTIVES = {"pred_x0": "x0", "pred_noise": "eps", "pred_v": "v"}


class Golden(Case):
    def test_rnn(self) -> None:
        for case in ("plan", "pred", "gruonly", "nogru", "selfcond"):
            with self.subTest(case=case):
                self.check(GOLDEN / f"rnn_mlp_{case}.safetensors")

    def check(self, path: Path) -> None:
        tensors, metadata = read_safetensors(path)
        told, numerics = json.loads(metadata["config"]), json.loads(metadata["numerics"])
        conditions, told = told["external_cond_dim"], told["diffusion"]
        state = {
            name.removeprefix("weights."): torch.from_numpy(tensor.copy())
            for name, tensor in tensors.items()
            if name.startswith("weights.")
        }
        given = {"diffusion": {"objective": OBJECTIVES[told["objective"]]}}
        config = df_export.export(state, given, self.folder / path.stem)
        sizes = config["denoiser"]
        self.assertEqual(config["diffusion"]["levels"], told["timesteps"])
        self.assertEqual(config["diffusion"]["schedule"], told["beta_schedule"])
        self.assertEqual(sizes["network_size"], told["network_size"])
        self.assertEqual(sizes["mlp_layers"], told["num_mlp_layers"])
        self.assertEqual(sizes["gru_layers"], told["num_gru_layers"])
        self.assertEqual(sizes["self_condition"], told["self_condition"])
        self.assertEqual(sizes["condition_size"], conditions)
        network = networks.build(sizes)
        weights = {name: t for name, t in state.items() if name in network.state_dict()}
        network.load_state_dict(weights, strict=True)
        x, z, t = (torch.from_numpy(tensors[f"in.{name}"].copy()) for name in ("x", "z", "t"))
        cond = tensors.get("in.external_cond") if sizes["condition_size"] else None
        guess = tensors.get("in.x_self_cond") if sizes["self_condition"] else None
        cond, guess = (None if a is None else torch.from_numpy(a.copy()) for a in (cond, guess))
        with torch.no_grad():
            output, latent = network(x, t, z, cond, guess)
        run = "predict_self_cond" if sizes["self_condition"] else "predict"
        for name, value in ((f"out.{run}.model_out", output), (f"out.{run}.pred_z", latent)):
            self.assert_close(value, tensors[name], numerics[name], name)
