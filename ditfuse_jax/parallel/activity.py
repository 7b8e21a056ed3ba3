"""What a process tells the others with its heartbeats."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any


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
    """How often a profile was asked for.

    Attributes:
      own: of this process, by SIGUSR1.
      others: of the other processes.
      answered: how many of them all have been answered.
    """

    own: int = 0
    others: int = 0
    answered: int = 0

    def is_open(self) -> bool:
        """Returns whether a request has not been answered."""
        return self.own + self.others > self.answered

    def answer(self) -> None:
        """Notes that all requests so far are answered."""
        self.answered = self.own + self.others

    @contextlib.contextmanager
    def accepted(self) -> Iterator[None]:
        """Context in which SIGUSR1 is a request instead of the end of the process."""

        def receive(number: int, frame: Any) -> None:
            self.own += 1

        # Python gives signals to the main thread only.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGUSR1, receive)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)


PROFILE_REQUESTS = Requests()
