"""Exports PyTorch checkpoints of Diffusion Forcing for the library: `python -m df_export --help`."""

from .errors import ExportError
from .export import export

__all__ = ["ExportError", "export"]
