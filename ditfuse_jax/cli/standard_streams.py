"""The standard streams of a command: what cannot be written to them is told in one line."""

import io
import os
import sys
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason


def prepare_streams() -> None:
    """Makes the standard streams of this process safe to print to.

    - A stream that was closed (`ditfuse ... >&-`) becomes the null device, so that no file that is
      opened later gets its number, and with it what libraries print.
    - A name that the terminal's encoding lacks is shown escaped.
    - Standard output that cannot be written, such as a file on a full disk, is a `UserError`; of
      standard error, which would tell it, the text is dropped and the work goes on.
    """
    _open_missing()
    sys.stdout = sys.__stdout__ = _guarded(sys.stdout, _Output)
    sys.stderr = sys.__stderr__ = _guarded(sys.stderr, _Messages)


class _Guarded(io.TextIOWrapper):
    """A text stream whose failures, but for a reader that is gone, are passed to `failed`."""

    def failed(self, error: OSError) -> None:
        """Takes what a write or flush raised; further text goes to the null device."""
        del error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failed(error)


class _Messages(_Guarded):
    """Standard error."""


class _Output(_Guarded):
    """Standard output."""

    def failed(self, error: OSError) -> None:
        """Raises a `UserError`."""
        super().failed(error)
        raise UserError(
            f"standard output: cannot be written ({reason(error)}); free space or direct it "
            "elsewhere"
        ) from error


def _guarded(stream: Any, kind: type[_Guarded]) -> Any:
    if not isinstance(stream, io.TextIOWrapper):  # a notebook's, or a test's
        return stream
    settings = {
        "encoding": stream.encoding,
        "line_buffering": stream.line_buffering,
        "write_through": stream.write_through,
    }
    stream.flush()
    return kind(stream.detach(), errors="backslashreplace", **settings)


def _open_missing() -> None:
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        # The number stays open until the process ends, as that of any standard stream.
        stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
