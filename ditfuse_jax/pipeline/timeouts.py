"""Batches that are waited for only so long."""

import queue
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.examples import Arrays


class Batches(Protocol):
    """An endless iterator that can be closed, like grain's."""

    def __next__(self) -> Arrays: ...

    def close(self) -> None: ...


class TimeoutIterator(Iterator[Arrays]):
    """Takes batches in a thread, so that one that never comes is an error and not a standstill."""

    def __init__(self, batches: Batches, seconds: float):
        """Args:
        batches: the stream.
        seconds: how long to wait for each batch; 0 means for ever.
        """
        self._batches, self._seconds = batches, seconds
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._stuck = False
        # A daemon: the interpreter does not wait for it at its end.
        threading.Thread(target=self._take, daemon=True, name="ditfuse-batches").start()

    def __next__(self) -> Arrays:
        """Returns the next batch.

        Raises:
          UserError: it did not come in time, or see the stream.
        """
        self._wanted.put(True)
        try:
            batch, error = self._found.get(timeout=self._seconds or None)
        except queue.Empty:
            self._stuck = True
            raise UserError(
                f"no batch came for {self._seconds:g} s: is the disk or the network of the data "
                "slow? More of data.workers, or packed data (ditfuse prepare), may help; "
                "train.data_timeout changes the limit"
            ) from None
        if error:
            raise error
        return batch

    def close(self) -> None:
        """Closes the stream, unless it is stuck: closing would wait for it."""
        self._wanted.put(False)
        if not self._stuck:
            self._batches.close()

    def _take(self) -> None:
        while self._wanted.get():
            try:
                self._found.put((next(self._batches), None))
            except Exception as error:
                self._found.put((None, error))
