"""Aspect-ratio buckets: every batch has one shape out of few, each image the nearest to its own.

Which shape a batch has follows from its number alone, so that hosts and restarts agree without a
word: bucket b has its own endless sequence of examples, and a plan deals the batches out among the
buckets in proportion to the images in them.
"""

import math
from collections.abc import Sequence
from typing import Any, SupportsIndex

import grain

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.examples import Arrays

Shape = tuple[int, int]

# Batches a run can have: far beyond any, and its examples still number less than 2^63.
_ENDLESS = 1 << 40


def nearest_bucket(size: Shape, shapes: Sequence[Shape]) -> int:
    """The index of the shape whose aspect ratio is nearest to the image's, by the logarithm."""
    height, width = size
    own = math.log(height / width)
    return min(range(len(shapes)), key=lambda k: abs(math.log(shapes[k][0] / shapes[k][1]) - own))


def assign_buckets(sizes: Sequence[Shape], shapes: Sequence[Shape]) -> list[list[int]]:
    """Returns for each shape the indices of the images that are nearest to it."""
    members: list[list[int]] = [[] for _ in shapes]
    for index, size in enumerate(sizes):
        members[nearest_bucket(size, shapes)].append(index)
    return members


class BucketedExamples:
    """A sequence of examples in which each batch is of one bucket; see `grain`'s data sources."""

    def __init__(
        self, parts: Sequence[grain.MapDataset], weights: Sequence[float], batch_size: int
    ):
        """Args:
        parts: endless examples of each bucket.
        weights: shares of the batches.
        batch_size: over all hosts.
        """
        if not parts:
            raise UserError("no image falls into any of data.buckets")
        self._parts, self._batch_size = parts, batch_size
        ranges = [
            grain.MapDataset.range(_ENDLESS // len(parts)).map(_Tag(k)) for k in range(len(parts))
        ]
        self._plan = grain.MapDataset.mix(ranges, weights) if len(parts) > 1 else ranges[0]

    def __len__(self) -> int:
        return len(self._plan) * self._batch_size

    def __getitem__(self, index: SupportsIndex) -> Arrays:
        batch, row = divmod(int(index), self._batch_size)
        plan: Any = self._plan[batch]
        bucket, number = plan
        example: Any = self._parts[bucket][number * self._batch_size + row]
        return example


class _Tag:
    """Number -> (bucket, number); a class, for it travels to worker processes."""

    def __init__(self, bucket: int):
        self.bucket = bucket

    def __call__(self, number: int) -> tuple[int, int]:
        return self.bucket, number
