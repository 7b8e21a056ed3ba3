"""Aspect-ratio buckets: every batch has one of few shapes, each image the nearest to its own.

The shape of a batch follows from its number alone, so hosts and restarts agree without
communication: each bucket has its own endless sequence of examples, and the batches are distributed
over the buckets in proportion to the images in them.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, SupportsIndex

import grain

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.examples import Arrays

Shape = tuple[int, int]

# More batches than any run has, and few enough that the examples' indices stay below 2^63.
_ENDLESS = 1 << 40


def nearest_bucket(size: Shape, shapes: Sequence[Shape]) -> int:
    """Returns the index of the shape with the nearest aspect ratio, on a logarithmic scale."""
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
    """A grain data source of examples in which all examples of a batch are of one bucket."""

    def __init__(
        self, parts: Sequence[grain.MapDataset], weights: Sequence[float], batch_size: int
    ):
        """Creates the source.

        Args:
          parts: endless examples of each bucket.
          weights: fractions of the batches.
          batch_size: over all hosts.

        Raises:
          UserError: there are no parts.
        """
        if not parts:
            raise UserError("no image falls into any of data.buckets")
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
