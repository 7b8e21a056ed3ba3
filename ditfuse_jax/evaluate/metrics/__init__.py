"""Fusion metrics in JAX: one file per family, one function per metric, one table of all metrics.

Each metric of the table is a function here, by its name in small letters: `metrics.qabf(a, b,
fused)`, `metrics.en(fused)`, `metrics.psnr_clean(fused, clean=clean)`; see `functions`.
"""

from ditfuse_jax.evaluate.metrics.batch import batch_metrics
from ditfuse_jax.evaluate.metrics.compute import compute_metrics, compute_metrics_of_candidates
from ditfuse_jax.evaluate.metrics.functions import MetricFunction, metric_function
from ditfuse_jax.evaluate.metrics.metric import Metric
from ditfuse_jax.evaluate.metrics.presets import METRIC_PRESETS
from ditfuse_jax.evaluate.metrics.registry import (
    CLEAN_METRICS,
    METRICS,
    TASK_METRICS,
    register_metric,
)

__all__ = [
    "CLEAN_METRICS",
    "METRICS",
    "METRIC_PRESETS",
    "TASK_METRICS",
    "Metric",
    "batch_metrics",
    "compute_metrics",
    "compute_metrics_of_candidates",
    "register_metric",
]


def __getattr__(name: str) -> MetricFunction:
    return metric_function(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name.lower() for name in METRICS)])
