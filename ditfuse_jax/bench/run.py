"""`ditfuse bench`: median of several repetitions, with the machine they ran on."""

import contextlib
import dataclasses
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.bench.m3_script import write_views
from ditfuse_jax.bench.metrics_script import twelve_metrics
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS, score
from ditfuse_jax.images import read_image
from ditfuse_jax.model import Condition
from ditfuse_jax.model.flops import condition_flops, draw_flops
from ditfuse_jax.parallel import Sharder, make_mesh
from ditfuse_jax.parallel.chips import peak_flops
from ditfuse_jax.pipeline import fixed_batch, open_source
from ditfuse_jax.pipeline.sources import FileSource
from ditfuse_jax.sample.sampler import make_sampler
from ditfuse_jax.tasks import TASKS
from ditfuse_jax.train.base import load_frozen
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.loop import compile_step, to_devices
from ditfuse_jax.train.optimizer import learning_rate, make_optimizer
from ditfuse_jax.train.recipe import load_recipe
from ditfuse_jax.train.recorder import Recorder, example_flops
from ditfuse_jax.train.run_folder import RunFolder, package_versions
from ditfuse_jax.train.settings import Recipe, resolve
from ditfuse_jax.train.state import abstract_state, create_state, make_graph
from ditfuse_jax.train.step import Metrics, make_train_step, model_inputs
from ditfuse_jax.train.writers import Console, MetricsWriter


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Attributes:
    seconds: of each repetition, after one that is not counted.
    images: examples per repetition.
    flops: model FLOPs per repetition, 0 where there are none to speak of.
    facts: what was measured.
    """

    seconds: Sequence[float]
    images: int
    flops: float
    facts: dict[str, Any]


def bench(
    what: str,
    config: str,
    overrides: Sequence[str] = (),
    *,
    repeats: int = 5,
    as_json: bool = False,
) -> dict[str, Any]:
    """Runs a benchmark and prints its result.

    Args:
      what: a name in `BENCHMARKS`.
      config: a recipe's name or file.
      overrides: words like `--config.data.batch_size=8`.
      repeats: measured repetitions; the median is reported.
      as_json: one JSON object instead of lines.

    Raises:
      UserError: unknown benchmark or bad recipe.
    """
    if what not in BENCHMARKS:
        raise UserError(f"benchmark {what!r} is unknown; choose from {', '.join(BENCHMARKS)}")
    if repeats < 1:
        raise UserError(f"repeats must be at least 1, not {repeats}")
    recipe = resolve(load_recipe(config, overrides))
    result = summarise(what, BENCHMARKS[what](recipe, repeats)) | {"recipe": config}
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value}")
    return result


def bench_train(recipe: Recipe, repeats: int) -> Measurement:
    """Training steps on one fixed batch, as the loop runs them."""
    setup = _Setup(recipe)
    setup.sharder.check_batch(recipe.stream.batch_size, recipe.step.accumulation)
    optimizer = make_optimizer(recipe.optimizer, recipe.schedule.steps)
    ema = recipe.step.ema_decay > 0
    abstract = abstract_state(recipe.network, optimizer, ema, setup.sharder)
    state = create_state(recipe.network, optimizer, ema, recipe.seed, abstract)
    graph, _ = make_graph(recipe.network)
    started = time.perf_counter()
    function = make_train_step(graph, optimizer, recipe.step, setup.sharder, setup.space)
    step = compile_step(function, setup.sharder, abstract, setup.frozen, setup.batch)
    compile_seconds = time.perf_counter() - started

    def run() -> Any:
        nonlocal state
        state, metrics = step(state, setup.frozen, setup.batch)
        return metrics

    size = recipe.stream.batch_size
    flops = example_flops(recipe, setup.batch) * size
    memory = step.memory_analysis()
    facts = {
        "batch_size": size,
        "crop": recipe.stream.crop,
        "compile_seconds": compile_seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "host_ms_per_step": _host_seconds(recipe, setup, jax.block_until_ready(run())) * 1e3,
    }
    return Measurement(_time(run, repeats), size, flops, facts)


def _host_seconds(recipe: Recipe, setup: "_Setup", metrics: Metrics, steps: int = 200) -> float:
    """What the loop itself costs per step: placing a batch, fetching, writing and showing metrics.

    Processor time of the loop's thread, waiting for devices and for data not included.
    """
    batch = jax.device_get(setup.batch)
    goodput = Goodput()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        writer = MetricsWriter(run)
        console = Console(steps, 0, recipe.stream.batch_size, quiet=True)
        rate = learning_rate(recipe.optimizer, recipe.schedule.steps)
        recorder = Recorder(recipe, rate, console, writer, goodput)
        recorder.start(0)
        started = 0.0
        for step in range(2 * steps):
            if step == steps:  # the first half warms up
                started = time.thread_time()
            with goodput.measure("data"):
                to_devices(batch, setup.sharder)
            recorder.push(step + 1, metrics, 0.0)
        seconds = time.thread_time() - started
        writer.close()
        console.close()
    return seconds / steps


def bench_sample(recipe: Recipe, repeats: int) -> Measurement:
    """Guided sampling of one batch at the recipe's crop, from random parameters.

    Of a model on latents the transformer alone is measured, without the autoencoder.
    """
    setup = _Setup(recipe)
    model, sampling = recipe.model, recipe.sampling
    _, state = make_graph(recipe.network)
    shardings = setup.sharder.parameters(state)
    initialise = jax.jit(
        lambda key: nnx.to_pure_dict(nnx.state(recipe.network.build(key), nnx.Param)),
        out_shardings=shardings,
    )
    parameters = initialise(jax.random.key(recipe.seed))
    size = recipe.stream.batch_size
    height, width = recipe.stream.crop
    shape = setup.space.shape(height, width)
    count = setup.batch["images"].shape[1]
    posterior_noise = jax.random.normal(jax.random.key(1), (size, count + 1, *shape))
    condition, image = model_inputs(
        setup.batch, setup.space, setup.frozen.autoencoder, posterior_noise
    )
    branches = sampling.guidance.branches
    stacked = Condition(*(jnp.stack([leaf] * len(branches)) for leaf in condition))
    weights = sampling.guidance.weights
    shares = jnp.asarray([weights[name] for name in branches])
    noise = jax.random.normal(jax.random.key(0), image.shape)
    sampler = make_sampler(make_graph(recipe.network)[0], sampling.steps, sampling.shift)

    patches = height * width // model.pixels_per_token**2
    text = float(setup.batch["token_valid"].sum()) / size
    per_branch = condition_flops(model, text, count, patches) + sampling.steps * draw_flops(
        model, text + count * patches, patches
    )
    facts = {
        "batch_size": size,
        "crop": recipe.stream.crop,
        "steps": sampling.steps,
        "branches": len(branches),
    }
    seconds = _time(lambda: sampler(parameters, stacked, noise, shares), repeats)
    return Measurement(seconds, size, per_branch * len(branches) * size, facts)


class _Setup:
    """What both benchmarks of the model need: devices, the frozen parts, one batch."""

    def __init__(self, recipe: Recipe):
        self.sharder = Sharder(make_mesh(recipe.mesh))
        self.space, self.frozen = load_frozen(recipe, self.sharder)
        batch = fixed_batch(recipe.stream, recipe.stream.batch_size)
        self.batch = to_devices(batch, self.sharder)


def bench_data(recipe: Recipe, repeats: int) -> Measurement:
    """Batches from the pipeline alone, with the threads and the memory that they take."""
    per_repeat = 8
    before = _peak_mib(resource.RUSAGE_SELF)
    with contextlib.closing(recipe.stream.batches()) as batches:
        seconds = _time(lambda: [next(batches) for _ in range(per_repeat)], repeats)
        threads = threading.active_count()
    facts = {
        "sources": len(recipe.stream.mixture),
        "crop": recipe.stream.crop,
        "workers": recipe.stream.workers,
        "threads": threads,
        "mib": _peak_mib(resource.RUSAGE_SELF) - before,
        "mib_of_a_worker": _peak_mib(resource.RUSAGE_CHILDREN) if recipe.stream.workers else 0.0,
    }
    return Measurement(seconds, per_repeat * recipe.stream.batch_size, 0.0, facts)


def _peak_mib(whose: int) -> float:
    """Most memory this process, or any child that has ended, had at once."""
    peak = resource.getrusage(whose).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def bench_m3(recipe: Recipe, repeats: int) -> Measurement:
    """M3 examples from image files, on one core, beside a plain script that writes views to files.

    The recipe's first source must be made of files.  The script works on whole images, ours on
    crops of the recipe's size with their tokens; both start from the same files.
    """
    ingredient = recipe.stream.mixture[0]
    source = open_source(ingredient.source)
    if not isinstance(source, FileSource) or source.num_images != 1:
        raise UserError(f"source {ingredient.source!r} is not made of single image files")
    numbers = range(min(len(source), 100))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)

    def ours() -> None:
        for number in numbers:
            images = tuple(read_image(path) for path in source.stacks[number])
            random = np.random.default_rng(number)
            recipe.stream.encoder(TASKS["m3"](images, random, recipe.stream.crop), random)

    def script() -> None:
        random = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            for number in numbers:
                write_views(source.stacks[number][0], Path(folder), random)

    try:
        seconds, baseline = _time(ours, repeats), _time(script, repeats)
    finally:
        cv2.setNumThreads(threads)
    facts = {
        "crop": recipe.stream.crop,
        "files": len(numbers),
        "script_images_per_second": len(numbers) / statistics.median(baseline),
        "times_the_script": statistics.median(baseline) / statistics.median(seconds),
    }
    return Measurement(seconds, len(numbers), 0.0, facts)


def bench_metrics(recipe: Recipe, repeats: int) -> Measurement:
    """Twelve fusion metrics of one pair of 640 x 480, all metrics, and a plain script's twelve.

    The recipe does not matter.  Compiling is told apart: it happens once for each image size.
    """
    del recipe
    random = np.random.default_rng(0)
    noise = [random.normal(0, 60, (480, 640, 3)) for _ in range(2)]
    smooth = [128 + cv2.GaussianBlur(x, (0, 0), 4) * 6 + x / 12 for x in noise]
    a, b = (np.clip(np.rint(x), 0, 255).astype(np.uint8) for x in smooth)
    fused = np.maximum(a, b)
    greys = [image[..., 0].astype(np.float64) for image in (fused, a, b)]
    few = tuple(twelve_metrics(*greys))
    every = tuple(name for name, metric in METRICS.items() if metric.needs != "host")

    compile_seconds = []
    for names in (few, every):
        started = time.perf_counter()
        score(fused, [a, b], a, names)
        compile_seconds.append(time.perf_counter() - started)
    seconds = _time(lambda: score(fused, [a, b], a, few), repeats)
    all_seconds = _time(lambda: score(fused, [a, b], a, every), repeats)
    script_seconds = _time(lambda: twelve_metrics(*greys), min(repeats, 3))
    facts = {
        "size": "640x480",
        "metrics": len(few),
        "first_call_seconds": compile_seconds[0],
        "all_metrics": len(every),
        "all_median_seconds": statistics.median(all_seconds),
        "all_first_call_seconds": compile_seconds[1],
        "script_median_seconds": statistics.median(script_seconds),
        "times_the_script": statistics.median(script_seconds) / statistics.median(seconds),
    }
    return Measurement(seconds, 1, 0.0, facts)


BENCHMARKS: dict[str, Callable[[Recipe, int], Measurement]] = {
    "train": bench_train,
    "sample": bench_sample,
    "data": bench_data,
    "m3": bench_m3,
    "metrics": bench_metrics,
}


def summarise(what: str, measured: Measurement) -> dict[str, Any]:
    """Rates of a measurement, and the machine."""
    median = statistics.median(measured.seconds)
    devices = jax.device_count()
    result = {
        "benchmark": what,
        "device": jax.devices()[0].device_kind,
        "devices": devices,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "versions": package_versions(),
        **measured.facts,
        "repeats": len(measured.seconds),
        "median_seconds": median,
        "slowest_seconds": max(measured.seconds),
        "images_per_second": measured.images / median,
    }
    if measured.flops:
        result["model_gflop_per_image"] = measured.flops / measured.images / 1e9
        result["tflops_per_device"] = measured.flops / median / devices / 1e12
        peak = peak_flops(jax.devices()[0].device_kind)
        if peak:
            result["mfu"] = result["tflops_per_device"] * 1e12 / peak
    return result


def _time(run: Callable[[], Any], repeats: int) -> list[float]:
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - started)
    return seconds
