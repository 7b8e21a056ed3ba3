"""What a process tells the others with its heartbeats."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Activity:
    """What a process is doing.

    Attributes:
      doing: name of the activity.
      since: when it began (`time.monotonic()`).
      steps: number of steps so far.
      own: seconds so far that the process spent on its own between the collective parts of steps,
        by kind.
    """

    doing: str
    since: float
    steps: int = 0
    own: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Requests:
    """How often a profile was asked for: of this process, and of the others."""

    own: int = 0
    others: int = 0

    @property
    def total(self) -> int:
        return self.own + self.others


PROFILE_REQUESTS = Requests()
