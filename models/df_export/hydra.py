"""The configuration of a run, `.hydra/config.yaml`, with its references followed where one looks."""

import re
from pathlib import Path

from . import yaml
from .errors import ExportError, about

REFERENCE = re.compile(r"\$\{([^${}]*)\}")
MISSING = "???"  # OmegaConf's mark for a value that has to be given
UNSET = object()


class Config:
    """Values by their place: config.get('algorithm.diffusion.timesteps').

    References (`${dataset.name}`, also inside text) are followed when a value is read, so that those
    which point to nothing do no harm as long as nobody needs them.
    """

    def __init__(self, text: str):
        self.root = yaml.load(text)
        if not isinstance(self.root, dict):
            raise ExportError("expected a mapping at the top")

    def get(self, place: str, default: object = UNSET) -> object:
        """The value, or the default if it is not there, `???` or a reference to nothing."""
        self.followed = 0
        try:
            return self._resolve(self._find(place, 0), 0)
        except LookupError as error:
            if default is not UNSET:
                return default
            raise ExportError(f"{place}: {error.args[0]}") from error

    def _find(self, place: str, depth: int) -> object:
        value: object = self.root
        for key in place.split("."):
            value = self._follow(value, depth)
            if isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict) and key in value:
                value = value[key]
            else:
                raise LookupError("is missing")
        return value

    def _follow(self, value: object, depth: int) -> object:
        """The value, its own references followed, those inside a list or a mapping not yet."""
        if depth > 20:
            raise LookupError("its references go round in a circle")
        if value == MISSING:
            raise LookupError(f"has to be given, found {MISSING}")
        if not isinstance(value, str) or "${" not in value:
            return value
        whole = REFERENCE.fullmatch(value)
        if whole:
            return self._target(whole[1], depth)
        text = REFERENCE.sub(lambda match: str(self._target(match[1], depth)), value)
        return text if text == value else self._follow(text, depth + 1)

    def _target(self, place: str, depth: int) -> object:
        self.followed += 1
        if self.followed > 1000:
            raise LookupError("it takes more than 1000 references")
        try:
            return self._follow(self._find(place.strip(), depth + 1), depth + 1)
        except LookupError as error:
            raise LookupError(f"refers to {place}, which {error.args[0]}") from error

    def _resolve(self, value: object, depth: int) -> object:
        value = self._follow(value, depth)
        if isinstance(value, dict):
            return {key: self._resolve(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolve(item, depth + 1) for item in value]
        return value


def read(path: Path) -> Config:
    with about(path):
        try:
            return Config(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ExportError("expected text in UTF-8") from error


def beside(checkpoint: Path) -> Path | None:
    """RUN/.hydra/config.yaml of RUN/checkpoints/NAME.ckpt, or of RUN/NAME.ckpt, if it is there."""
    folder = checkpoint.absolute().parent
    for run in (folder.parent, folder):
        if (run / ".hydra/config.yaml").is_file():
            return run / ".hydra/config.yaml"
    return None
