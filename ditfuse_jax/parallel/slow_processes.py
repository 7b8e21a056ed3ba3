"""Finds processes that the others wait for in every step.

The time of a step that a process spends on its own, waiting for data or working on the host, delays
all processes if it exceeds the time that the devices need.  It is compared over windows of time, so
that a single slow batch is not reported.
"""

import dataclasses
import statistics
from collections.abc import Mapping

# Seconds over which the times are averaged.
WINDOW = 60.0
# A process is slow if its own time per step exceeds the others' median by this factor ...
FACTOR = 2.0
# ... and is at least this share of a step, so that its devices wait rather than the host.
SHARE = 0.7

_MIN_STEPS = 3


@dataclasses.dataclass(frozen=True)
class SlowProcess:
    """A process that the others wait for.

    Attributes:
      index: of the process.
      own: its own seconds per step.
      median: the median of the others.
      reason: what takes most of them.
      seconds: of these per step.
    """

    index: int
    own: float
    median: float
    reason: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class _Sample:
    time: float  # of the process's own clock
    steps: int
    own: Mapping[str, float]


class StepTimes:
    """The processes' own times; holds two samples of each process."""

    def __init__(self):
        self._since = 0.0
        self._first: dict[int, _Sample] = {}
        self._last: dict[int, _Sample] = {}
        self._slow_windows: dict[int, int] = {}

    def add(self, index: int, time: float, steps: int, own: Mapping[str, float]) -> None:
        """Takes what a process says of itself.

        Args:
          index: of the process.
          time: seconds by its own clock.
          steps: number of its steps so far.
          own: its own seconds so far, by kind.
        """
        self._last[index] = _Sample(time, steps, own)

    def find(self, now: float) -> list[SlowProcess]:
        """Returns the slow processes when a window ends; in between nothing.

        A process that stays slow is returned after 1, 2, 4, ... windows.

        Args:
          now: time in seconds.
        """
        if not self._first:
            self._begin(now)
            return []
        steps = [self._last[i].steps - first.steps for i, first in self._first.items()]
        if now - self._since < WINDOW or min(steps) < _MIN_STEPS:
            return []
        found = [slow for index in self._first if (slow := self._check(index))]
        self._begin(now)
        slow = {one.index for one in found}
        self._slow_windows = {i: n for i, n in self._slow_windows.items() if i in slow}
        for index in slow:
            self._slow_windows[index] = self._slow_windows.get(index, 0) + 1
        return [one for one in found if self._slow_windows[one.index].bit_count() == 1]

    def _begin(self, now: float) -> None:
        self._since, self._first = now, dict(self._last)

    def _check(self, index: int) -> SlowProcess | None:
        own = {i: sum(self._per_step(i).values()) for i in self._first}
        others = [seconds for i, seconds in own.items() if i != index]
        if not others:
            return None
        median = statistics.median(others)
        first, last = self._first[index], self._last[index]
        step = (last.time - first.time) / (last.steps - first.steps)
        if own[index] < FACTOR * median or own[index] < SHARE * step:
            return None
        parts = self._per_step(index)
        reason = max(parts, key=parts.__getitem__)
        return SlowProcess(index, own[index], median, reason, parts[reason])

    def _per_step(self, index: int) -> dict[str, float]:
        first, last = self._first[index], self._last[index]
        steps = last.steps - first.steps
        return {
            kind: max(0.0, seconds - first.own.get(kind, 0.0)) / steps
            for kind, seconds in last.own.items()
        }
