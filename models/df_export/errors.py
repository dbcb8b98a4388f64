"""The one kind of error that a user sees."""

import contextlib
from collections.abc import Iterator


class ExportError(Exception):
    """What is wrong with the input, in one line, with what was expected and what was found."""

    def __str__(self) -> str:
        # Names come out of files that nobody has vouched for: no line breaks, no control codes.
        text = "".join(c if c.isprintable() else "?" for c in super().__str__())
        return text if len(text) <= 500 else text[:497] + "..."


@contextlib.contextmanager
def about(subject: object) -> Iterator[None]:
    """Puts the subject, such as a path, in front of errors."""
    try:
        yield
    except ExportError as error:
        raise ExportError(f"{subject}: {error}") from error
    except OSError as error:
        raise ExportError(f"{subject}: {error.strerror or error}") from error
