"""A writer in a thread does not delay training, loses nothing, and reports its errors."""

import threading
import time

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.writers import MultiWriter, background
from ditfuse_jax.train.writers.background import Background


class Slow:
    """A writer that can be held up."""

    def __init__(self):
        self.may_go, self.steps, self.flushes, self.closed = threading.Event(), [], 0, False

    def write(self, step, scalars):
        assert self.may_go.wait(10)
        self.steps.append(step)
        if scalars.get("bad"):
            raise OSError("no answer")

    def flush(self):
        self.flushes += 1

    def close(self):
        self.closed = True


def test_writing_returns_at_once_and_closing_waits_for_all_records():
    slow = Slow()
    writer = Background("slow", lambda: slow)
    began = time.monotonic()
    for step in range(100):
        writer.write(step, {})
    assert time.monotonic() - began < 1
    assert slow.steps == []
    slow.may_go.set()
    writer.close()
    assert slow.steps == list(range(100))
    assert slow.closed


def test_scalars_that_change_later_are_recorded_as_they_were():
    got = []

    class Keeping(Slow):
        def write(self, step, scalars):
            got.append(scalars["loss"])

    writer, scalars = Background("keeping", Keeping), {"loss": 1.0}
    writer.write(1, scalars)
    scalars["loss"] = 2.0
    writer.close()
    assert got == [1.0]


def test_records_are_flushed_within_seconds(monkeypatch):
    monkeypatch.setattr(background, "FLUSH_EVERY", 0.02)
    slow = Slow()
    slow.may_go.set()
    writer = Background("slow", lambda: slow)
    writer.write(1, {})
    deadline = time.monotonic() + 10
    while not slow.flushes:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.close()


def test_an_error_in_the_thread_is_raised_later_and_the_next_records_are_written():
    slow, said = Slow(), []
    slow.may_go.set()
    writer = MultiWriter([Background("service", lambda: slow)], said.append)
    writer.write(1, {"bad": True})
    writer.write(2, {})
    writer.close()
    assert slow.steps == [1, 2]
    assert said == [
        "writer service fails, training goes on and metrics may be missing there: OSError: no "
        "answer"
    ]


def test_a_service_that_cannot_be_reached_is_reported_once(monkeypatch):
    def refused():
        raise ConnectionError("refused")

    said = []
    writer = MultiWriter([Background("service", refused)], said.append)
    for step in range(5):
        writer.write(step, {})
    writer.close()
    (line,) = said
    assert "writer service fails" in line and "ConnectionError: refused" in line


def test_the_end_does_not_wait_for_ever_for_a_service_that_hangs(monkeypatch):
    monkeypatch.setattr(background, "CLOSE_WITHIN", 0.1)
    slow = Slow()
    writer = Background("slow", lambda: slow)
    for step in range(4):
        writer.write(step, {})
    with pytest.raises(UserError, match="records are not written within 0 s after the end"):
        writer.close()
    slow.may_go.set()


def test_a_service_that_hangs_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(background, "MOST_WAITING", 3)
    slow = Slow()
    writer = Background("slow", lambda: slow)
    with pytest.raises(UserError, match="3 records wait to be written by slow"):
        for step in range(6):
            writer.write(step, {})
    slow.may_go.set()
    writer.close()
