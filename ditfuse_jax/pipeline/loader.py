"""The training data as a grain `MapDataset`, from sources to batches.

Every example is a function of (seed, index), whatever the number of hosts and workers.  Batch s
consists of the examples [s * B, (s + 1) * B) in order, so a position in the data is one number, the
count of batches consumed, and a run may continue on another number of hosts.
"""

import dataclasses
import functools
import math
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
from absl import flags

from ditfuse_jax.checks import check_above_zero, check_at_least, check_fraction
from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions, loaded_extensions
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.pipeline.bad_records import BadRecordBudget
from ditfuse_jax.pipeline.batches import Batches, stack
from ditfuse_jax.pipeline.buckets import BucketedExamples, assign_buckets
from ditfuse_jax.pipeline.disk_cache import DiskCache
from ditfuse_jax.pipeline.examples import Arrays, ExampleEncoder, LoadAndEncode
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.sources import Source, open_source
from ditfuse_jax.tasks import Task, make_task

_BATCHES_AT_ONCE = 2  # that a process prepares
_REMOTE_READ_THREADS = 16


@dataclasses.dataclass(frozen=True)
class MixtureComponent:
    """One part of the mixture.

    Attributes:
      source: see `open_source`.
      task: see `make_task`.
      weight: fraction of the examples, relative to the other components.
    """

    source: str
    task: str | Mapping[str, Any] | Task
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataPipeline:
    """Which data are read, and how they become batches.

    Attributes:
      mixture: the components.
      crop: (height, width) of the examples.
      batch_size: examples per batch over all hosts.
      seed: of all random numbers.
      encoder: example -> arrays.
      workers: worker processes; 0 prepares batches in threads of this process.
      buckets: (height, width) of the aspect-ratio buckets; if given, every batch has one of these
        sizes instead of `crop`; see `BucketedExamples`.
      max_bad_fraction: fraction of a source's records that may be unusable; see `BadRecordBudget`.
      read_threads: examples that each process reads at the same time; 0 is one per thread for
        sources on a disk, and 16 if a source is in an object store, whose answers take long.
      cache: folder on a local disk where packed records from an object store are kept; "" keeps
        none.
      cache_gib: limit of that folder in GiB, of all processes and sources together.
      log: file for their names.
    """

    mixture: Sequence[MixtureComponent]
    crop: tuple[int, int]
    batch_size: int
    seed: int
    encoder: ExampleEncoder
    workers: int = 0
    buckets: Sequence[tuple[int, int]] = ()
    max_bad_fraction: float = 0.0
    read_threads: int = 0
    cache: str = ""
    cache_gib: float = 100.0
    log: Path | None = None

    def __post_init__(self) -> None:
        check_at_least("data.batch_size", self.batch_size, 1)
        check_at_least("data.workers", self.workers, 0)
        check_at_least("data.read_threads", self.read_threads, 0)
        check_above_zero("data.cache_gib", self.cache_gib)
        check_fraction("data.max_bad_fraction", self.max_bad_fraction)

    @functools.cached_property
    def tasks(self) -> list[Task]:
        """The components' tasks.

        Raises:
          UserError: see `make_task`.
        """
        return [make_task(component.task) for component in self.mixture]

    @functools.cached_property
    def sources(self) -> list[Source]:
        """The components' sources, opened at the first access.

        Raises:
          UserError: unknown task or source, or a source that does not fit its task.
        """
        if not self.mixture:
            raise UserError("data.mixture is empty: name at least one source and task")
        return [self._open(*pair) for pair in zip(self.mixture, self.tasks, strict=True)]

    def examples(self) -> grain.MapDataset:
        """Returns the endless sequence of examples, before batching.

        Raises:
          UserError: see `sources`.
        """
        if not self.buckets:
            everything = [range(len(source)) for source in self.sources]
            return self._mixed(everything, self.crop)[0]
        members = [assign_buckets(source, self.buckets) for source in self.sources]
        mixed = [
            self._mixed([of_source[b] for of_source in members], shape)
            for b, shape in enumerate(self.buckets)
        ]
        parts, weights = zip(*(pair for pair in mixed if pair[1]), strict=True)
        return grain.MapDataset.source(BucketedExamples(parts, weights, self.batch_size))

    def batches(
        self, start: int = 0, host: int = 0, num_hosts: int = 1
    ) -> grain.DatasetIterator[Arrays]:
        """Returns this host's part of the batches from number `start` on.

        Every leaf has `batch_size / num_hosts` rows: rows [host * b, (host + 1) * b) of the batch.

        Raises:
          UserError: the batch size is not a multiple of the number of hosts, and see `examples`.
        """
        if self.batch_size % num_hosts:
            raise UserError(
                f"data.batch_size {self.batch_size} does not divide by {num_hosts} processes"
            )
        # Cut into host-sized pieces first: piece s * num_hosts + host is our part of batch s.
        size = self.batch_size // num_hosts
        threads = self.read_threads or self._default_read_threads()
        pieces = grain.MapDataset.source(Batches(self.examples(), size, threads))
        ours = pieces.slice(slice(start * num_hosts + host, None, num_hosts))
        at_once = max(_BATCHES_AT_ONCE, -(-threads // size))
        options = grain.ReadOptions(num_threads=at_once, prefetch_buffer_size=2 * at_once)
        batches = ours.to_iter_dataset(options)
        if self.workers:
            if not flags.FLAGS.is_parsed():  # grain's workers read absl's flags
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(
                num_workers=self.workers, per_worker_buffer_size=2
            )
            # The workers are spawned, and unpickle the dataset after this function has run.
            initialize = functools.partial(_initialize_worker, loaded_extensions())
            batches = batches.mp_prefetch(options, worker_init_fn=initialize)
        return iter(batches)

    def _open(self, component: MixtureComponent, task: Task) -> Source:
        if not 0 < component.weight < math.inf:
            raise UserError(
                f"weight {component.weight} of source {component.source!r} must be positive: "
                "remove the component to leave it out"
            )
        source = open_source(component.source)
        if source.num_images != task.num_images:
            raise UserError(
                f"task {component.task!r} takes {task.num_images} image(s) at a time, source "
                f"{component.source!r} has {source.num_images}"
            )
        if isinstance(source, PackedSource):
            if source.moments:
                self._check_packed_crops(source)
            if self.cache and source.remote:
                folder = as_path(self.cache)
                if is_remote(folder):
                    raise UserError(f"data.cache {self.cache} must be on a local disk")
                source.keep_on_disk(DiskCache(folder, int(self.cache_gib * 2**30)))
        return source

    def _default_read_threads(self) -> int:
        remote = any(getattr(source, "remote", False) for source in self.sources)
        return _REMOTE_READ_THREADS if remote else 1

    def _check_packed_crops(self, source: PackedSource) -> None:
        packed = source.distinct_sizes()
        if self.buckets or packed != {self.crop}:
            (height, width), *_ = sorted(packed)
            raise UserError(
                f"{source.folder} holds crops of {height}x{width} with their moments: set "
                f"data.crop=({height}, {width}) and no data.buckets, or pack it again"
            )

    def _mixed(
        self, members: Sequence[Sequence[int]], crop: tuple[int, int]
    ) -> tuple[grain.MapDataset, float]:
        """Returns endless examples of one size from members of the sources, and their weight."""
        parts, weights = [], []
        for i, component in enumerate(self.mixture):
            if not members[i]:
                continue
            source = self.sources[i]
            bad_records = BadRecordBudget(
                component.source, len(source), self.max_bad_fraction, self.log
            )
            transform = LoadAndEncode(source, self.tasks[i], crop, self.encoder, bad_records)
            # Components have different seeds: two of one source show different examples.
            indices = grain.MapDataset.source(members[i]).seed(self.seed + i)
            parts.append(indices.shuffle().repeat().random_map(transform))
            weights.append(component.weight * len(members[i]) / len(source))
        if not parts:
            return grain.MapDataset.source([]), 0.0
        dataset = grain.MapDataset.mix(parts, weights) if len(parts) > 1 else parts[0]
        return dataset, sum(weights)


def fixed_batch(pipeline: DataPipeline, count: int) -> Arrays:
    """Returns the first `count` examples of a pipeline in one batch, e.g. for evaluation."""
    examples = pipeline.examples()
    return stack([examples[i] for i in range(count)])


def _initialize_worker(extensions: Sequence[str], index: int, count: int) -> None:
    """Imports extensions in a worker process, before it unpickles their tasks and sources."""
    del index, count
    # SLURM sends the signal that asks a training for a profile to its worker processes, too.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    load_extensions(extensions)
