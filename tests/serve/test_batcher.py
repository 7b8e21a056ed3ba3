"""The thread that fuses survives what its requests do."""

import types
from typing import Any

import pytest

from ditfuse_jax.serve.batcher import Batcher


class Fuser:
    """Returns what it gets; raises what it gets if that is an exception."""

    def run(self, prepared):
        for item in prepared:
            if isinstance(item.value, BaseException):
                raise item.value
        return [item.value for item in prepared]


def item(value) -> Any:
    return types.SimpleNamespace(value=value, batch_key=("one size",))


@pytest.fixture
def batcher():
    fuser: Any = Fuser()
    started = Batcher(fuser, 2)
    yield started
    started.close(10)


class BadKey:
    """A request whose key cannot be computed."""

    @property
    def batch_key(self):
        raise ValueError("no key")


def test_a_request_without_a_key_fails_alone(batcher):
    bad: Any = BadKey()
    with pytest.raises(ValueError, match="no key"):
        batcher.submit(bad)
    assert batcher.submit(item(1)).result(10) == 1


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit("end")])
def test_an_error_of_one_request_reaches_its_client_and_the_thread_goes_on(batcher, error):
    with pytest.raises(type(error)):
        batcher.submit(item(error)).result(10)
    assert batcher.submit(item(2)).result(10) == 2 and batcher.alive


def test_a_counter_that_fails_does_not_end_the_thread():
    def observe(size, seconds):
        raise RuntimeError("counter")

    fuser: Any = Fuser()
    batcher = Batcher(fuser, 2, observe)
    assert [batcher.submit(item(k)).result(10) for k in range(3)] == [0, 1, 2]
    batcher.close(10)
    assert not batcher.alive
