"""`ditfuse bench`: median of several repetitions, with the machine they ran on."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ditfuse_jax.bench.data import bench_data, bench_m3
from ditfuse_jax.bench.measurement import Measurement
from ditfuse_jax.bench.metrics import bench_metrics
from ditfuse_jax.bench.model import bench_sample, bench_train
from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.chips import peak_flops
from ditfuse_jax.train.recipe import load_recipe
from ditfuse_jax.train.run_folder import package_versions
from ditfuse_jax.train.settings import Recipe, resolve

BENCHMARKS: dict[str, Callable[[Recipe, int], Measurement]] = {
    "train": bench_train,
    "sample": bench_sample,
    "data": bench_data,
    "m3": bench_m3,
    "metrics": bench_metrics,
}


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
