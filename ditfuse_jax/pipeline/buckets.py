"""Aspect-ratio buckets: every batch has one of few shapes, each image the nearest to its own.

The shape of a batch follows from its number alone, so hosts and restarts agree without
communication: each bucket has its own endless sequence of examples, and the batches are distributed
over the buckets in proportion to the images in them.
"""

import concurrent.futures
import functools
import math
from collections.abc import Sequence
from typing import Any, SupportsIndex

import grain
import numpy as np

from ditfuse_jax.pipeline.bounded_cache import BoundedCache
from ditfuse_jax.pipeline.examples import Arrays
from ditfuse_jax.pipeline.lazy_sequence import LazySequence
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.sources import Source

Shape = tuple[int, int]

# More batches than any run has, and few enough that the examples' indices stay below 2^63.
_ENDLESS = 1 << 40

_THREADS = 16  # that read sizes
_BUCKET_BYTES = 32 << 20
_SIDE_BITS, _SIDE_MASK = np.uint64(32), np.uint64(0xFFFFFFFF)
_buckets_of_shards: BoundedCache[np.ndarray] = BoundedCache(_BUCKET_BYTES, lambda b: b.nbytes)


@functools.lru_cache(maxsize=1 << 16)
def nearest_bucket(size: Shape, shapes: tuple[Shape, ...]) -> int:
    """Returns the index of the shape with the nearest aspect ratio, on a logarithmic scale."""
    height, width = size
    own = math.log(height / width)
    return min(range(len(shapes)), key=lambda k: abs(math.log(shapes[k][0] / shapes[k][1]) - own))


def assign_buckets(source: Source, shapes: Sequence[Shape]) -> Sequence[Sequence[int]]:
    """Returns for each shape the numbers of a source's items that are nearest to it."""
    shapes = tuple(shapes)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        if isinstance(source, PackedSource):
            in_shards = list(
                pool.map(
                    lambda shard: np.bincount(
                        _buckets_of_shard(source, shapes, shard), minlength=len(shapes)
                    ),
                    range(len(source.shards)),
                )
            )
            counts = np.array(in_shards).T
            found = [_PackedMembers(source, shapes, b, counts[b]) for b in range(len(shapes))]
            return [LazySequence(len(members), members.record) for members in found]
        sizes = pool.map(source.size, range(len(source)))
        members: list[list[int]] = [[] for _ in shapes]
        for index, size in enumerate(sizes):
            members[nearest_bucket(size, shapes)].append(index)
        return members


class _PackedMembers:
    """The records of packed data that are nearest to one shape.

    It knows how many each shard has, and finds out which of the shard's they are when one of them
    is asked for.
    """

    def __init__(
        self, source: PackedSource, shapes: tuple[Shape, ...], bucket: int, counts: np.ndarray
    ):
        self._source, self._shapes, self._bucket = source, shapes, bucket
        self._starts = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def record(self, index: int) -> int:
        """Returns the number of the record at a position among the members."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        buckets = _buckets_of_shard(self._source, self._shapes, shard)
        (numbers,) = np.nonzero(buckets == self._bucket)
        return self._source.start(shard) + int(numbers[index - int(self._starts[shard])])


def _buckets_of_shard(source: PackedSource, shapes: tuple[Shape, ...], shard: int) -> np.ndarray:
    """Returns the number of the shape that is nearest to each record: intp (records,)."""

    dtype = np.min_scalar_type(len(shapes))

    def load() -> np.ndarray:
        held = source.shards[shard]
        if held.size is not None:
            return np.full(held.records, nearest_bucket(held.size, shapes), dtype)
        height, width = source.sizes(shard).astype(np.uint64).T
        distinct, where = np.unique(height << _SIDE_BITS | width, return_inverse=True)
        sides = zip(
            (distinct >> _SIDE_BITS).tolist(), (distinct & _SIDE_MASK).tolist(), strict=True
        )
        return np.array([nearest_bucket(size, shapes) for size in sides], dtype)[where]

    return _buckets_of_shards.get((source.folder, source.shards[shard].sha256, shapes), load)


class BucketedExamples:
    """A grain data source of examples in which all examples of a batch are of one bucket."""

    def __init__(
        self, parts: Sequence[grain.MapDataset], weights: Sequence[float], batch_size: int
    ):
        """Creates the source.

        Args:
          parts: endless examples of each bucket.
          weights: fractions of the batches.
          batch_size: over all hosts.
        """
        self._parts, self._batch_size = parts, batch_size
        plans = [
            grain.MapDataset.range(_ENDLESS // len(parts)).map(functools.partial(_tagged, bucket))
            for bucket in range(len(parts))
        ]
        self._plan = grain.MapDataset.mix(plans, weights) if len(parts) > 1 else plans[0]

    def __len__(self) -> int:
        return len(self._plan) * self._batch_size

    def __getitem__(self, index: SupportsIndex) -> Arrays:
        batch, row = divmod(int(index), self._batch_size)
        plan: Any = self._plan[batch]
        bucket, number = plan
        example: Any = self._parts[bucket][number * self._batch_size + row]
        return example


def _tagged(bucket: int, number: int) -> tuple[int, int]:
    """Returns (bucket, number of the batch within it)."""
    return bucket, number
