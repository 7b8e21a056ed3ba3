"""Requests to stop: preemption (SIGTERM) or Ctrl-C."""

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """Records SIGTERM and SIGINT, so that the loop can stop after a step."""

    def __init__(self):
        self._received = False
        self._alone = jax.process_count() == 1
        self._before: dict[int, Any] = {}
        # Python gives signals to the main thread only; in another one there are no requests.
        if threading.current_thread() is not threading.main_thread():
            return
        # With several processes, JAX's runtime handles SIGTERM and notifies all of them.
        for number in (signal.SIGTERM, signal.SIGINT) if self._alone else (signal.SIGINT,):
            self._before[number] = signal.signal(number, self._receive)

    def requested(self, step: int) -> bool:
        """Returns whether to stop after this step, the same in all processes.

        This does not wait for other processes: when one receives a signal, they agree in the
        background on a step that none has reached.
        """
        if self._alone:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def close(self) -> None:
        """Restores the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self._received = True
        if not self._alone:
            signal.raise_signal(signal.SIGTERM)
