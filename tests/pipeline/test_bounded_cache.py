"""Caches drop what was used longest ago, and load each value once."""

import threading
import time

import pytest

from ditfuse_jax.pipeline.bounded_cache import BoundedCache


def test_the_value_used_longest_ago_is_dropped():
    cache = BoundedCache(2)
    loads = []

    def get(key):
        return cache.get(key, lambda: loads.append(key) or key)

    for key in ("a", "b", "a", "c", "a", "b"):
        assert get(key) == key
    assert loads == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_costs_are_added_and_a_single_value_may_exceed_the_limit():
    cache = BoundedCache(10, len)
    for text in ("aaaa", "bbbb", "cccc"):
        cache.get(text, lambda text=text: text)
    assert len(cache) == 2
    assert cache.get("long", lambda: "x" * 50) == "x" * 50
    assert len(cache) == 1


def test_threads_that_want_one_value_wait_for_one_load():
    cache = BoundedCache(4)
    loads = []

    def load():
        loads.append(1)
        time.sleep(0.05)
        return "value"

    found = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.get("key", load))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["value"] * 8 and len(loads) == 1


def test_a_failed_load_is_raised_and_tried_again():
    cache = BoundedCache(4)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert cache.get("key", lambda: 5) == 5


def test_many_threads_stay_within_the_limit():
    cache = BoundedCache(5)

    def work(seed):
        for k in range(300):
            key = (k * seed) % 17
            assert cache.get(key, lambda key=key: key * 2) == key * 2

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) <= 5
