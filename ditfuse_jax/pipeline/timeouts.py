"""A limit on the time to wait for the next batch, and what it means that a worker has ended."""

import queue
import re
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.examples import Arrays


class ClosableIterator(Protocol):
    """An endless iterator of batches that can be closed, like grain's `DatasetIterator`."""

    def __next__(self) -> Arrays: ...

    def close(self) -> None: ...


# What grain says of a worker that ended by itself.
_ENDED_WORKER = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")
_KILLED = -9  # by SIGKILL


class TimeoutIterator(Iterator[Arrays]):
    """Reads batches in a thread, so that a batch that never arrives ends the run with an error."""

    def __init__(self, batches: ClosableIterator, seconds: float):
        """Starts the thread.

        Args:
          batches: the iterator to read.
          seconds: how long to wait for each batch; 0 waits without limit.
        """
        self._batches, self._seconds = batches, seconds
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._timed_out = False
        # A daemon thread: the interpreter does not wait for it at exit.
        threading.Thread(target=self._read, daemon=True, name="ditfuse-batches").start()

    def __next__(self) -> Arrays:
        """Returns the next batch.

        Raises:
          UserError: it did not arrive in time, or a worker process was killed or crashed.
          Exception: what the iterator raised.
        """
        self._requests.put(True)
        try:
            batch, error = self._results.get(timeout=self._seconds or None)
        except queue.Empty:
            self._timed_out = True
            raise UserError(
                f"no batch arrived within {self._seconds:g} s: the data's disk or network may be "
                "too slow; raise data.workers, pack the data (ditfuse prepare), or raise "
                "train.data_timeout"
            ) from None
        if error:
            raise _of_worker(error) or error
        return batch

    def close(self) -> None:
        """Closes the iterator, unless it timed out: closing it would wait for the batch."""
        self._requests.put(False)
        if not self._timed_out:
            self._batches.close()

    def _read(self) -> None:
        while self._requests.get():
            try:
                self._results.put((next(self._batches), None))
            except Exception as error:
                self._results.put((None, error))


def _of_worker(error: Exception) -> UserError | None:
    """Returns what an error says of a worker process that ended; None if it is another error."""
    match = _ENDED_WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
    if match is None:
        return None
    if int(match[1]) == _KILLED:
        found = UserError(
            "a data worker was killed (out of memory?): set fewer data.workers, then run the same "
            "command to continue"
        )
    else:
        found = UserError(
            f"a data worker ended with exit code {match[1]}: its last lines are above; "
            "data.workers=0 reads the data without them"
        )
    found.__cause__ = error
    return found
