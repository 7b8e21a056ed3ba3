"""The standard streams of a command: what cannot be written to them is told in one line."""

import contextlib
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
    sys.stdout = _guarded(sys.stdout, _Output)
    sys.stderr = _guarded(sys.stderr, _Guarded)


class _Guarded(io.TextIOWrapper):
    """A text stream that drops what cannot be written, unless it is because the reader is gone."""

    # The stream that this one replaces: handlers of `logging` may hold it, and its destructor would
    # close the file.
    before: io.TextIOWrapper

    def failed(self, error: OSError) -> None:
        """Takes what a write or flush raised."""

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


class _Output(_Guarded):
    """A stream whose text must not be dropped."""

    def failed(self, error: OSError) -> None:
        """Raises a `UserError`; further text goes to the null device."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        raise UserError(
            f"standard output: cannot be written ({reason(error)}); free space or direct it "
            "elsewhere"
        ) from error


def _guarded(stream: Any, kind: type[_Guarded]) -> Any:
    if not isinstance(stream, io.TextIOWrapper):  # a notebook's, or a test's
        return stream
    # Of a pipe that does not block, text that does not fit would be lost.
    with contextlib.suppress(OSError):
        os.set_blocking(stream.fileno(), True)
    stream.flush()
    guarded = kind(
        stream.buffer,
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    guarded.before = stream
    return guarded


def _open_missing() -> None:
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null > number and not _is_open(number):
            os.dup2(null, number)
            os.close(null)
            null = number
        # It stays open until the process ends, as any standard stream.
        setattr(sys, name, os.fdopen(null, mode, encoding="utf-8", closefd=False))


def _is_open(number: int) -> bool:
    """Whether a file that was opened since the start has this number."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
