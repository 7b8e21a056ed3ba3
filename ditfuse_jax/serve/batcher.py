"""The thread that owns the model: takes requests from a queue and fuses those of one size together.

Admission to the queue is bounded elsewhere (`http`), before a request is read.
"""

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ditfuse_jax.sample.fused import Fused
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.sample.prepared import Prepared

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class _Item:
    """A request that waits; `key`: requests with equal keys can be fused together."""

    prepared: Prepared
    key: tuple
    future: "Future[Fused]" = dataclasses.field(default_factory=Future)


class Batcher:
    """Fuses what is submitted, in a thread of its own.

    A batch holds the oldest request and later ones of the same size and settings.
    """

    def __init__(
        self,
        fuser: Fuser,
        batch_size: int,
        observe: Callable[[int, float], Any] = lambda size, seconds: None,
    ):
        """Starts the thread.

        Args:
          fuser: the model.
          batch_size: most requests that are fused together.
          observe: is told the size and the seconds of each batch.
        """
        self._fuser, self._batch_size, self._observe = fuser, batch_size, observe
        self._waiting: collections.deque[_Item] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        # As a daemon it does not keep the process alive when a computation never returns.
        self._thread = threading.Thread(target=self._work, name="fuse", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs: without it nothing is fused any more."""
        return self._thread.is_alive()

    def submit(self, prepared: Prepared) -> "Future[Fused]":
        """Adds a request; a future that is cancelled before its turn is never computed.

        Raises:
          RuntimeError: the server is stopping, or the thread has ended.
        """
        # Here and not in the thread: what it raises is an error of this request alone.
        item = _Item(prepared, prepared.batch_key)
        with self._changed:
            if self._closed:
                raise RuntimeError("the server is stopping")
            if not self.alive:
                raise RuntimeError("the thread that fuses has ended")
            self._waiting.append(item)
            self._changed.notify()
        return item.future

    def close(self, seconds: float = 60.0) -> None:
        """Cancels what waits, and waits for the batch that runs."""
        with self._changed:
            self._closed = True
            for item in self._waiting:
                item.future.cancel()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._fuse(batch)
            except BaseException as error:
                # Whatever it is, those who wait are told, and the next batch is fused.
                _LOG.exception("a batch of %d failed", len(batch))
                for item in batch:
                    if not item.future.done():
                        item.future.set_exception(error)

    def _fuse(self, batch: Sequence["_Item"]) -> None:
        started = time.monotonic()
        outcomes = self._run([item.prepared for item in batch])
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                item.future.set_exception(outcome)
            else:
                item.future.set_result(outcome)
        self._observe(len(batch), time.monotonic() - started)

    def _next(self) -> list["_Item"]:
        """Waits for a request and returns its batch; an empty one when the server stops."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return []
                key = self._waiting[0].key
                batch, others = [], collections.deque()
                for item in self._waiting:
                    if len(batch) == self._batch_size or item.key != key:
                        others.append(item)
                    elif item.future.set_running_or_notify_cancel():
                        batch.append(item)
                self._waiting = others
                if batch:
                    return batch

    def _run(self, batch: Sequence[Prepared]) -> Sequence[Fused | BaseException]:
        try:
            return self._fuser.run(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            _LOG.warning("a batch of %d failed (%s): one by one", len(batch), error)
        # One bad request does not fail the others.
        return [outcome for item in batch for outcome in self._run([item])]
