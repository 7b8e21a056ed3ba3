"""Benchmarks of the data pipeline, and of M3 against a plain script."""

import contextlib
import resource
import statistics
import sys
import tempfile
import threading
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.bench.m3_baseline import write_views
from ditfuse_jax.bench.measurement import Measurement, time_repeats
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.pipeline.sources import FileSource
from ditfuse_jax.tasks import TASKS
from ditfuse_jax.train.settings import Recipe


def bench_data(recipe: Recipe, repeats: int) -> Measurement:
    """Measures batches of the pipeline alone, and the threads and memory (MiB) that it uses."""
    per_repeat = 8
    before = _peak_mib(resource.RUSAGE_SELF)
    with contextlib.closing(recipe.data.batches()) as batches:
        seconds = time_repeats(lambda: [next(batches) for _ in range(per_repeat)], repeats)
        threads = threading.active_count()
    facts = {
        "sources": len(recipe.data.mixture),
        "crop": recipe.data.crop,
        "workers": recipe.data.workers,
        "threads": threads,
        "mib": _peak_mib(resource.RUSAGE_SELF) - before,
        "mib_per_worker": _peak_mib(resource.RUSAGE_CHILDREN) if recipe.data.workers else 0.0,
    }
    return Measurement(seconds, per_repeat * recipe.data.batch_size, 0.0, facts)


def _peak_mib(whose: int) -> float:
    """Peak memory of this process, or of the largest child that has ended, in MiB."""
    peak = resource.getrusage(whose).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def bench_m3(recipe: Recipe, repeats: int) -> Measurement:
    """Measures M3 examples from image files on one core against a plain script.

    The script degrades whole images and writes the views to files; the pipeline makes crops of the
    recipe's size and encodes the prompts.  Both read the same files.

    Raises:
      UserError: the recipe's first source does not consist of single image files.
    """
    component = recipe.data.mixture[0]
    source = open_source(component.source)
    if not isinstance(source, FileSource) or source.num_images != 1:
        raise UserError(f"source {component.source!r} does not consist of single image files")
    numbers = range(min(len(source), 100))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)

    def ours() -> None:
        for number in numbers:
            images = tuple(read_image(path) for path in source.stacks[number])
            random = np.random.default_rng(number)
            recipe.data.encoder(TASKS["m3"](images, random, recipe.data.crop), random)

    def baseline() -> None:
        random = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            for number in numbers:
                write_views(source.stacks[number][0], Path(folder), random)

    try:
        seconds = time_repeats(ours, repeats)
        baseline_seconds = time_repeats(baseline, repeats)
    finally:
        cv2.setNumThreads(threads)
    facts = {
        "crop": recipe.data.crop,
        "files": len(numbers),
        "baseline_images_per_second": len(numbers) / statistics.median(baseline_seconds),
        "speedup": statistics.median(baseline_seconds) / statistics.median(seconds),
    }
    return Measurement(seconds, len(numbers), 0.0, facts)
