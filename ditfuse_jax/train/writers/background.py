"""A writer in a thread of its own, so that a slow service or storage does not delay training."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.writers.writer import Writer

FLUSH_EVERY = 5.0  # seconds
CLOSE_WITHIN = 60.0  # seconds
MOST_WAITING = 10_000  # records


class FlushedWriter(Writer, Protocol):
    """A writer that keeps records in memory until it is flushed."""

    def flush(self) -> None:
        """Writes what is only in memory."""
        ...


class Background:
    """Opens a writer in a thread and passes records to it.

    Errors of the thread are raised by the next call.
    """

    def __init__(self, name: str, open_writer: Callable[[], FlushedWriter]):
        """Starts the thread.

        Args:
          name: of the writer, for messages.
          open_writer: called in the thread.
        """
        self.name, self._open = name, open_writer
        self._waiting: queue.Queue[tuple[int, dict[str, float]] | None]
        self._waiting = queue.Queue(MOST_WAITING)
        self._error: Exception | None = None
        self._run_failed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"ditfuse-{name}")
        self._thread.start()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`.

        Raises:
          UserError: too many records wait to be written.
          Exception: of an earlier record.
        """
        try:
            self._waiting.put_nowait((step, dict(scalars)))
        except queue.Full:
            raise UserError(f"{MOST_WAITING} records wait to be written by {self.name}") from None
        self._raise()

    def fail(self) -> None:
        """See `Writer`; the thread tells the writer at the end."""
        self._run_failed = True

    def close(self) -> None:
        """See `Writer`; waits up to `CLOSE_WITHIN` seconds for what is not written yet.

        Raises:
          UserError: it is not written within this time.
          Exception: of an earlier record.
        """
        deadline = time.monotonic() + CLOSE_WITHIN
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSE_WITHIN)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            raise UserError(
                f"{self._waiting.qsize()} records are not written within {CLOSE_WITHIN:.0f} s "
                "after the end"
            )
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            writer = self._open()
        except Exception as error:
            self._error = error
            while self._waiting.get() is not None:  # nothing can be recorded
                pass
            return
        flushed, last = time.monotonic(), False
        while not last:
            try:
                record = self._waiting.get(timeout=FLUSH_EVERY)
            except queue.Empty:
                pass
            else:
                if record is None:
                    last = True
                else:
                    self._try(lambda record=record: writer.write(*record))
            if not last and time.monotonic() - flushed >= FLUSH_EVERY:
                self._try(writer.flush)
                flushed = time.monotonic()
        fail = getattr(writer, "fail", None)
        if self._run_failed and fail:
            self._try(fail)
        self._try(writer.close)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._error = error
