"""`ditfuse bench`: the median of several repetitions, with the machine and versions."""

import importlib
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax

from ditfuse_jax.bench.measurement import Measurement
from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry

if TYPE_CHECKING:
    from ditfuse_jax.train.settings import Recipe

# Takes a recipe and the number of repetitions.
Benchmark = Callable[["Recipe", int], Measurement]


def _deferred(module: str, function: str) -> Benchmark:
    """A benchmark whose module, with SciPy or the pipeline, is imported when it runs."""

    def run(recipe: "Recipe", repeats: int) -> Measurement:
        loaded = importlib.import_module(f"ditfuse_jax.bench.{module}")
        return getattr(loaded, function)(recipe, repeats)

    return run


BENCHMARKS: Registry[Benchmark] = Registry(
    "benchmark",
    {
        "train": _deferred("model", "bench_train"),
        "sample": _deferred("model", "bench_sample"),
        "data": _deferred("data", "bench_data"),
        "m3": _deferred("data", "bench_m3"),
        "packed": _deferred("packed", "bench_packed"),
        "metrics": _deferred("metrics", "bench_metrics"),
        "start": _deferred("start", "bench_start"),
    },
)


WITHOUT_RECIPE = ("start",)  # measures the bundled model


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
      overrides: like `--config.data.batch_size=8`.
      repeats: timed repetitions; the median is reported.
      as_json: print one JSON object instead of lines.

    Raises:
      UserError: unknown benchmark or invalid recipe.
    """
    benchmark = BENCHMARKS.find(what)
    if repeats < 1:
        raise UserError(f"repeats must be at least 1, not {repeats}")
    from ditfuse_jax.train.recipe import load_recipe
    from ditfuse_jax.train.settings import resolve

    recipe = resolve(load_recipe(config, overrides))
    result = summarize(what, benchmark(recipe, repeats))
    if what not in WITHOUT_RECIPE:
        result["recipe"] = config
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value}")
    return result


def summarize(what: str, measured: Measurement) -> dict[str, Any]:
    """Returns the rates of a measurement, the device and the versions, by name."""
    from ditfuse_jax.parallel.accelerators import peak_flops
    from ditfuse_jax.train.run_folder import package_versions

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
