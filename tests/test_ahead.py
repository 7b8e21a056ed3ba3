"""Iterating in a thread, and one item ahead."""

import os
import subprocess
import sys
import threading
import time

import pytest

from ditfuse_jax.ahead import iterate_ahead, one_ahead


class Source:
    """Yields 0, 1, ...; raises an error at a number; `made` holds those that were begun."""

    def __init__(self, count, error_at=None):
        self.made, self.threads, self.closed = [], set(), False
        self.count, self.error_at = count, error_at

    def __iter__(self):
        try:
            for k in range(self.count):
                self.made.append(k)
                self.threads.add(threading.current_thread().name)
                if k == self.error_at:
                    raise OSError("damaged")
                yield k
        finally:
            self.closed = True


def wait_until(condition):
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("count", [1, 3])
def test_items_come_in_order_from_another_thread(count):
    source = Source(20)
    assert list(iterate_ahead(source, count, "test")) == list(range(20))
    assert source.threads == {"ditfuse-test_0"} and source.closed


def test_no_more_items_than_allowed_are_made_before_they_are_wanted():
    source = Source(20)
    items = iterate_ahead(source, 2, "test")
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert wait_until(lambda: source.made == [0, 1, 2, 3, 4])
    time.sleep(0.05)
    assert source.made == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ahead", [lambda x: iterate_ahead(x, 2, "test"), one_ahead])
def test_an_error_is_raised_after_the_items_before_it(ahead):
    source, found = Source(9, error_at=4), []
    with pytest.raises(OSError, match=r"^damaged$"):
        for item in ahead(source):
            found.append(item)
    assert found == [0, 1, 2, 3] and source.made[-1] == 4


def test_a_consumer_that_stops_ends_the_thread_and_closes_the_source():
    source = Source(1000)
    items = iterate_ahead(source, 2, "stopped")
    next(items)
    del items
    assert wait_until(lambda: source.closed)
    assert len(source.made) <= 4
    assert wait_until(lambda: not any("stopped" in thread.name for thread in threading.enumerate()))


def test_each_item_is_passed_on_when_the_next_one_was_made():
    source = Source(4)
    assert [(item, list(source.made)) for item in one_ahead(source)] == [
        (0, [0, 1]),
        (1, [0, 1, 2]),
        (2, [0, 1, 2, 3]),
        (3, [0, 1, 2, 3]),
    ]
    assert list(one_ahead([])) == []


@pytest.mark.processes
def test_the_thread_computes_in_the_contexts_of_its_consumer():
    code = (
        "import jax, numpy as np\n"
        "from ditfuse_jax.ahead import iterate_ahead\n"
        "one, two = jax.local_devices()\n"
        "def computed():\n"
        "    for _ in range(4):\n"
        "        yield jax.numpy.ones(2).devices(), jax.config.jax_default_matmul_precision\n"
        "with jax.default_device(two), jax.default_matmul_precision('highest'):\n"
        "    inner = iterate_ahead(computed(), 1, 'inner')\n"
        "    assert list(iterate_ahead(inner, 2, 'outer')) == [({two}, 'highest')] * 4\n"
        "assert list(iterate_ahead(computed(), 1, 'plain')) == [({one}, None)] * 4\n"
    )
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
