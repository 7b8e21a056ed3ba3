"""The time to wait for a batch is limited."""

import threading
import time

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.timeouts import TimeoutIterator


class Source:
    """Batches 0, 1, ...; number `stuck` waits for `go`, number `bad` is an error."""

    def __init__(self, stuck: int = -1, bad: int = -1):
        self.number, self.stuck, self.bad = -1, stuck, bad
        self.go, self.closed = threading.Event(), False

    def __next__(self):
        self.number += 1
        if self.number == self.stuck:
            self.go.wait(30)
        if self.number == self.bad:
            raise UserError("batch is bad")
        return {"number": np.array(self.number)}

    def close(self):
        self.closed = True


def test_batches_keep_their_order_and_none_is_read_ahead():
    source = Source()
    batches = TimeoutIterator(source, 10)
    assert source.number == -1
    assert [int(next(batches)["number"]) for _ in range(5)] == [0, 1, 2, 3, 4]
    time.sleep(0.05)
    assert source.number == 4
    batches.close()
    assert source.closed


def test_an_error_of_the_iterator_is_raised_and_does_not_end_it():
    batches = TimeoutIterator(Source(bad=1), 10)
    next(batches)
    with pytest.raises(UserError, match="batch is bad"):
        next(batches)
    assert next(batches)["number"] == 2


def test_a_batch_that_does_not_arrive_is_an_error_and_close_does_not_wait_for_it():
    source = Source(stuck=1)
    batches = TimeoutIterator(source, 0.2)
    next(batches)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no batch arrived within 0.2 s.*train\.data_timeout"):
        next(batches)
    batches.close()
    assert time.monotonic() - start < 5
    assert not source.closed
    source.go.set()


def test_without_a_limit_a_slow_batch_is_awaited():
    source = Source(stuck=0)
    threading.Timer(0.3, source.go.set).start()
    assert next(TimeoutIterator(source, 0))["number"] == 0


def test_a_reading_thread_does_not_keep_the_process_alive():
    others = set(threading.enumerate())  # threads of earlier tests may still be stuck
    source = Source(stuck=0)
    batches = TimeoutIterator(source, 10)
    (thread,) = set(threading.enumerate()) - others
    assert thread.daemon
    source.go.set()
    batches.close()


@pytest.mark.parametrize(
    "code, message",
    [(-9, "a data worker was killed .out of memory.*fewer data.workers"), (-11, "exit code -11")],
)
def test_a_worker_that_was_killed_is_one_line(code, message):
    class OfDeadWorker(Source):
        def __next__(self):
            raise RuntimeError(
                f"Worker process was terminated unexpectedly with exit code {code}. Search the logs"
            )

    with pytest.raises(UserError, match=message):
        next(TimeoutIterator(OfDeadWorker(), 10))
