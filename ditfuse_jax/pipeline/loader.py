"""The training stream: grain `MapDataset` from sources to batches, addressable by position.

Every example is a function of (seed, index), whatever the number of hosts and workers.  Batch s is
made of the examples [s * B, (s + 1) * B) in order, so a position is one number, the count of
batches consumed, and a run may continue on another number of hosts.
"""

import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
from absl import flags

from ditfuse_jax.checks import check_at_least, check_fraction
from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.bad_records import BadRecordBudget
from ditfuse_jax.pipeline.buckets import BucketedExamples, assign_buckets
from ditfuse_jax.pipeline.examples import Arrays, ExampleEncoder, LoadAndEncode
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.sources import Source, open_source
from ditfuse_jax.tasks import find_task


@dataclasses.dataclass(frozen=True)
class MixtureComponent:
    """One part of the mixture.

    Attributes:
      source: see `open_source`.
      task: see `find_task`.
      weight: share in the mixture, relative to the others.
    """

    source: str
    task: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataPipeline:
    """What is streamed and how.

    Attributes:
      mixture: the ingredients.
      crop: (height, width) of the examples.
      batch_size: examples per batch over all hosts.
      seed: of everything random in it.
      encoder: example -> arrays.
      workers: worker processes; 0 prepares batches in threads of this process.
      buckets: (height, width) of the aspect-ratio buckets; if given, every batch has one of these
        sizes instead of `crop`; see `BucketedExamples`.
      max_bad_fraction: of a source's records that may be unusable; see `BadRecordBudget`.
      log: file for the names of those.
    """

    mixture: Sequence[MixtureComponent]
    crop: tuple[int, int]
    batch_size: int
    seed: int
    encoder: ExampleEncoder
    workers: int = 0
    buckets: Sequence[tuple[int, int]] = ()
    max_bad_fraction: float = 0.0
    log: Path | None = None

    def __post_init__(self) -> None:
        check_at_least("data.batch_size", self.batch_size, 1)
        check_at_least("data.workers", self.workers, 0)
        check_fraction("data.max_bad_fraction", self.max_bad_fraction)

    @functools.cached_property
    def sources(self) -> list[Source]:
        """The mixture's sources, in order, opened at the first use.

        Raises:
          UserError: unknown task or source, or a source that does not suit its task.
        """
        if not self.mixture:
            raise UserError("data.mixture is empty: name at least one source and task")
        return [self._open(ingredient) for ingredient in self.mixture]

    def examples(self) -> grain.MapDataset:
        """The endless sequence of examples, before batching.

        Raises:
          UserError: see `sources`.
        """
        if not self.buckets:
            everything = [range(len(source)) for source in self.sources]
            return self._mixed(everything, self.crop)[0]
        members = [assign_buckets(_sizes(source), self.buckets) for source in self.sources]
        mixed = [
            self._mixed([of_source[b] for of_source in members], shape)
            for b, shape in enumerate(self.buckets)
        ]
        parts, weights = zip(*(pair for pair in mixed if pair[1]), strict=True)
        return grain.MapDataset.source(BucketedExamples(parts, weights, self.batch_size))

    def batches(
        self, start: int = 0, host: int = 0, num_hosts: int = 1
    ) -> grain.DatasetIterator[Arrays]:
        """This host's part of the batches from number `start` on.

        Every leaf has `batch_size / num_hosts` rows: rows [host * b, (host + 1) * b) of the batch.

        Raises:
          UserError: the batch does not divide by the hosts, and see `examples`.
        """
        if self.batch_size % num_hosts:
            raise UserError(
                f"data.batch_size {self.batch_size} does not divide by {num_hosts} processes"
            )
        # Cut into host-sized pieces first: piece s * num_hosts + host is our part of batch s.
        size = self.batch_size // num_hosts
        # Without `drop_remainder` grain rounds the endless length up, past what an integer holds.
        pieces = self.examples().batch(size, drop_remainder=True, batch_fn=_stack)
        ours = pieces.slice(slice(start * num_hosts + host, None, num_hosts))
        threads = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
        stream = ours.to_iter_dataset(threads)
        if self.workers:
            if (
                not flags.FLAGS.is_parsed()
            ):  # grain's workers read absl flags; not all callers use absl
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(
                num_workers=self.workers, per_worker_buffer_size=2
            )
            stream = stream.mp_prefetch(options)
        return iter(stream)

    def _open(self, ingredient: MixtureComponent) -> Source:
        task = find_task(ingredient.task)
        if not 0 < ingredient.weight < math.inf:
            raise UserError(
                f"weight {ingredient.weight} of source {ingredient.source!r} must be positive: "
                "remove the ingredient to leave it out"
            )
        source = open_source(ingredient.source)
        if source.num_images != task.num_images:
            raise UserError(
                f"task {ingredient.task!r} takes {task.num_images} image(s) at a time, source "
                f"{ingredient.source!r} has {source.num_images}"
            )
        if isinstance(source, PackedSource) and source.moments:
            self._check_packed_crops(source)
        return source

    def _check_packed_crops(self, source: PackedSource) -> None:
        packed = set(source.sizes)
        if self.buckets or packed != {self.crop}:
            (height, width), *_ = sorted(packed)
            raise UserError(
                f"{source.folder} holds crops of {height}x{width} with their moments: set "
                f"data.crop=({height}, {width}) and no data.buckets, or pack it again"
            )

    def _mixed(
        self, members: Sequence[Sequence[int]], crop: tuple[int, int]
    ) -> tuple[grain.MapDataset, float]:
        """Endless examples of one size, made from the members of each source, and their weight."""
        parts, weights = [], []
        for i, (ingredient, source) in enumerate(zip(self.mixture, self.sources, strict=True)):
            if not members[i]:
                continue
            tolerance = BadRecordBudget(
                ingredient.source, len(source), self.max_bad_fraction, self.log
            )
            make = LoadAndEncode(source, ingredient.task, crop, self.encoder, tolerance)
            numbers = grain.MapDataset.source(members[i]).seed(self.seed + i)
            parts.append(numbers.shuffle().repeat().random_map(make))
            weights.append(ingredient.weight * len(members[i]) / len(source))
        if not parts:
            return grain.MapDataset.source([]), 0.0
        dataset = grain.MapDataset.mix(parts, weights) if len(parts) > 1 else parts[0]
        return dataset, sum(weights)


def fixed_batch(stream: DataPipeline, count: int) -> Arrays:
    """The first `count` examples of a stream in one batch, e.g. for evaluation."""
    examples = stream.examples()
    return _stack([examples[i] for i in range(count)])


def _sizes(source: Source) -> list[tuple[int, int]]:
    """Every item's size; headers of files are waited for side by side."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(source.size, range(len(source))))


def _stack(examples: Sequence[Any]) -> Arrays:
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}
