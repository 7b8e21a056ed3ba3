"""Batches of consecutive examples."""

import concurrent.futures
import functools
from collections.abc import Sequence
from typing import Any, SupportsIndex

import grain
import numpy as np

from ditfuse_jax.pipeline.examples import Arrays


class Batches:
    """A grain data source of batches: batch k is the examples [k * size, (k + 1) * size).

    The examples of a batch may be read at the same time, so that waiting for an object store costs
    the time of one answer and not of all.
    """

    def __init__(self, examples: grain.MapDataset, size: int, threads: int):
        """Creates the source.

        Args:
          examples: endless.
          size: examples per batch.
          threads: that read examples, for all batches of a process; 1 reads them in order.
        """
        self._examples, self._size, self._threads = examples, size, threads

    def __len__(self) -> int:
        return len(self._examples) // self._size

    def __getitem__(self, index: SupportsIndex) -> Arrays:
        first = index.__index__() * self._size
        numbers = range(first, first + self._size)
        each = map if self._threads == 1 else _pool(self._threads).map
        return stack(list(each(self._examples.__getitem__, numbers)))


def stack(examples: Sequence[Any]) -> Arrays:
    """Returns examples with a leading axis."""
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


@functools.cache
def _pool(threads: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="ditfuse-read")
