"""A process that was suspended does not hang."""

import pytest

from ditfuse_jax.parallel import heartbeat
from ditfuse_jax.parallel.activity import Activity


@pytest.fixture
def clock(monkeypatch):
    """The time as a list of one number."""
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def beats(clock):
    """Beats at given times of an activity that began at a given time; returns why to stop."""
    beating = heartbeat.Heartbeat("train", heartbeat.LocalStore(), 0, 1)
    beating.stop_thread()
    beating.hang_timeout = 60.0

    def beat(since, *times):
        beating.activity = lambda: Activity("step", since)
        for number, clock[0] in enumerate(times):
            stop = beating._beat(number)
        return stop

    return beat


def test_the_time_of_a_suspension_does_not_count(beats):
    assert beats(100.0, 101.0, 102.0, 5000.0, 5001.0) is None
    assert beats(100.0, *range(5002, 5050)) is None
    assert "has been at step for 61 s" in beats(100.0, *range(5050, 5060)).line


def test_a_suspension_counts_for_its_own_activity_only(beats):
    assert beats(100.0, 101.0, 5000.0) is None
    assert beats(5000.5, *range(5001, 5061)) is None
    assert "for 61 s" in beats(5000.5, 5061.6).line


def test_an_activity_that_hangs_without_suspension_is_found(beats):
    assert beats(100.0, *range(101, 161)) is None
    assert "for 61 s" in beats(100.0, 161.0).line
