"""What a writer of metrics is."""

from collections.abc import Mapping
from typing import Protocol


class Writer(Protocol):
    """Records metrics, in the main process only.

    One with a method `fail()` is told before `close` that the run ends with an error.
    """

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records scalars of a step; a step may be written several times.

        An exception is reported once and does not end the run.
        """
        ...

    def close(self) -> None:
        """Flushes and closes; called at the end of a run, also if it fails."""
        ...
