"""Benchmark of the metrics against a plain script."""

import statistics
import time

import cv2
import numpy as np

from ditfuse_jax.bench.measurement import Measurement, time_repeats
from ditfuse_jax.bench.metrics_baseline import twelve_metrics
from ditfuse_jax.evaluate.metrics import METRICS, compute_metrics
from ditfuse_jax.train.settings import Recipe


def bench_metrics(recipe: Recipe, repeats: int) -> Measurement:
    """Measures twelve fusion metrics of one 640 x 480 pair, all metrics, and a script's twelve.

    The recipe is not used.  Compilation happens once per image size and is reported separately.
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
        compute_metrics(fused, [a, b], a, names)
        compile_seconds.append(time.perf_counter() - started)
    seconds = time_repeats(lambda: compute_metrics(fused, [a, b], a, few), repeats)
    all_seconds = time_repeats(lambda: compute_metrics(fused, [a, b], a, every), repeats)
    baseline_seconds = time_repeats(lambda: twelve_metrics(*greys), min(repeats, 3))
    facts = {
        "size": "640x480",
        "metrics": len(few),
        "first_call_seconds": compile_seconds[0],
        "all_metrics": len(every),
        "all_median_seconds": statistics.median(all_seconds),
        "all_first_call_seconds": compile_seconds[1],
        "baseline_median_seconds": statistics.median(baseline_seconds),
        "speedup": statistics.median(baseline_seconds) / statistics.median(seconds),
    }
    return Measurement(seconds, 1, 0.0, facts)
