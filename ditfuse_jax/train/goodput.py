"""The time of a run by kind: initialisation, compilation, data, steps, checkpoints, evaluation."""

import contextlib
import time
from collections.abc import Iterator

KINDS: tuple[str, ...] = ("init", "compile", "data", "step", "checkpoint", "evaluation")


class Goodput:
    """Sums wall time by kind; the rest is `other`."""

    def __init__(self):
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self._start = time.monotonic()
        # The kind that is measured now, and its start; read by other threads.
        self.current = ("other", self._start)

    @contextlib.contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Adds the time spent inside to a kind."""
        start = time.monotonic()
        self.current = (kind, start)
        try:
            yield
        finally:
            end = time.monotonic()
            self.seconds[kind] += end - start
            self.current = ("other", end)

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def shares(self) -> dict[str, float]:
        """Returns the fraction of the time per kind, and `other`; they sum to one."""
        total = max(self.total, 1e-9)
        shares = {kind: seconds / total for kind, seconds in self.seconds.items()}
        return shares | {"other": max(0.0, 1.0 - sum(shares.values()))}
