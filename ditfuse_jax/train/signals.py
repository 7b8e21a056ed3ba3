"""Asked to stop: by preemption (SIGTERM) or by hand (Ctrl-C)."""

import signal
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """Turns SIGTERM and SIGINT into a question the loop asks after each step."""

    def __init__(self):
        self._asked = False
        self._alone = jax.process_count() == 1
        self._before: dict[int, Any] = {}
        # With several processes the runtime has SIGTERM and spreads the notice to all.
        for number in (signal.SIGTERM, signal.SIGINT) if self._alone else (signal.SIGINT,):
            self._before[number] = signal.signal(number, self._ask)

    def requested(self, step: int) -> bool:
        """Whether to stop after this step: the same answer in all processes.

        Nobody waits here for another: the processes agree in the background, when one of them was
        asked, on a step that none has reached.
        """
        if self._alone:
            return self._asked
        return multihost_utils.reached_preemption_sync_point(step)

    def close(self) -> None:
        """Gives the signals back to their former handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self._asked = True
        if not self._alone:
            signal.raise_signal(signal.SIGTERM)
