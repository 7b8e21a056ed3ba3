"""Several writers as one, none of which can end a run."""

from collections.abc import Callable, Iterable, Mapping

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.console import write_line
from ditfuse_jax.train.writers.writer import Writer


class MultiWriter:
    """Several writers as one; a failure of one is reported once, and the others go on."""

    def __init__(self, writers: Iterable[Writer], say: Callable[[str], None] = write_line):
        """Creates the writer.

        Args:
          writers: record everything, in this order.
          say: prints a line.
        """
        self._writers = list(writers)
        self._say = say
        self._failed: set[int] = set()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        for index, writer in enumerate(self._writers):
            self._guard(index, lambda writer=writer: writer.write(step, scalars))

    def fail(self) -> None:
        """Tells the writers that want to know that the run ends with an error; then `close`."""
        for index, writer in enumerate(self._writers):
            self._guard(index, getattr(writer, "fail", _nothing))

    def close(self) -> None:
        """See `Writer`."""
        for index, writer in enumerate(self._writers):
            self._guard(index, writer.close)

    def _guard(self, index: int, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # anything: a service, a disk, a user's own writer
            if index not in self._failed:
                self._failed.add(index)
                writer = self._writers[index]
                name = getattr(writer, "name", type(writer).__name__)
                self._say(report(name, error))


def _nothing() -> None:
    """What a writer does that makes no difference between a run that failed and one that ended."""


def report(name: str, error: Exception) -> str:
    """Returns the line that reports a writer's failure."""
    reason = " ".join(str(error).split())[:300]
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"writer {name} fails, training goes on and metrics may be missing there: {reason}"
