"""The time of a run by kind: initialisation, compilation, data, steps, checkpoints, evaluation."""

import contextlib
import time
from collections.abc import Iterator

import jax

from ditfuse_jax.parallel.activity import Activity

KINDS: tuple[str, ...] = (
    *("init", "compile", "data", "step", "callback", "checkpoint", "evaluation"),
)
# What a process does on its own between two steps, while others may wait for it.
OWN_KINDS = ("data", "callback")


class Goodput:
    """Sums wall time by kind; the rest is `other`."""

    def __init__(self):
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self.counts = dict.fromkeys(KINDS, 0)
        self._start = time.monotonic()
        self._inside = 0.0  # seconds measured inside of what is being measured
        # The kind that is measured now, and its start; read by other threads.
        self.current = ("other", self._start)

    @contextlib.contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Adds the time spent inside to a kind, and marks it in a profile if one is taken."""
        start = time.monotonic()
        self.current = (kind, start)
        outer, self._inside = self._inside, 0.0
        try:
            with jax.profiler.TraceAnnotation(kind):
                yield
        finally:
            end = time.monotonic()
            # What was measured inside counts there, so that the shares sum to one.
            self.seconds[kind] += end - start - self._inside
            self._inside = outer + (end - start)
            self.counts[kind] += 1
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

    def activity(self) -> Activity:
        """Returns what the process does now, for its heartbeat."""
        doing, since = self.current
        measured = sum(self.seconds.values())
        if doing != "other":
            measured += time.monotonic() - since
        own = {kind: self.seconds[kind] for kind in OWN_KINDS}
        own["other"] = max(0.0, self.total - measured)
        return Activity(doing, since, steps=self.counts["data"], own=own)
