"""The command: python -m df_export CHECKPOINT OUT."""

import argparse
import sys


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        fail(f"{message} (--help tells more)", 2)


def fail(message: object, status: int = 1) -> None:
    print(f"df_export: {message}", file=sys.stderr)
    sys.exit(status)


def options() -> Parser:
    parser = Parser(
        prog="python -m df_export",
        description="Turns a checkpoint of the official Diffusion Forcing code, or a state_dict, into a folder "
        "with model.safetensors, config.json, a model card to fill in, and reference.safetensors.",
        epilog="Nothing in the checkpoint is executed.",
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a .ckpt of Lightning, or a state_dict"
    )
    parser.add_argument("out", metavar="OUT", help="the folder to write; new or empty")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the run's .hydra/config.yaml (default: the one beside the checkpoint), or, named .json, an object "
        "like config.json with what the tensors do not tell",
    )
    parser.add_argument(
        "--weights",
        metavar="FORMAT",
        default="f32",
        help="f32 (default), f16 or int8: how the weights are stored",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="of the model (default: the run's, else OUT's)"
    )
    parser.add_argument("--license", metavar="TEXT", help="of the weights, for card and config")
    parser.add_argument(
        "--force", action="store_true", help="replace the files of an earlier export in OUT"
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    given = options().parse_args(arguments)
    try:
        from . import ExportError, export
    except ImportError as error:
        fail(f"needs PyTorch and NumPy ({error})")
    try:
        config = export(
            given.checkpoint,
            given.config,
            given.out,
            weights=given.weights,
            name=given.name,
            license=given.license,
            force=given.force,
        )
    except ExportError as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except MemoryError:
        fail(f"{given.checkpoint}: not enough memory")
    denoiser = config["denoiser"]
    print(
        f"{given.out}: {config['name']}, {denoiser['kind']}, tokens of {denoiser['token_size']} numbers, "
        f"weights {given.weights}. To fill in: README.md"
    )


if __name__ == "__main__":
    main()
