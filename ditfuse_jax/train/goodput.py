"""Where a run's time goes: initialisation, compilation, data, steps, checkpoints, evaluation."""

import contextlib
import time
from collections.abc import Iterator

KINDS: tuple[str, ...] = ("init", "compile", "data", "step", "checkpoint", "evaluation")


class Goodput:
    """Sums wall time by kind; what was not measured is `other`."""

    def __init__(self):
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self._start = time.monotonic()
        # What is going on, and since when: read by other threads.
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
        return time.monotonic() - self._start

    def shares(self) -> dict[str, float]:
        """Fraction of the run's time per kind, and `other`; they sum to one."""
        total = max(self.total, 1e-9)
        shares = {kind: seconds / total for kind, seconds in self.seconds.items()}
        return shares | {"other": max(0.0, 1.0 - sum(shares.values()))}
