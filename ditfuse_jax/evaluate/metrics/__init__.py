"""Fusion metrics in JAX: one file per family, one function per metric, one table of all metrics."""

from ditfuse_jax.evaluate.metrics.batch import batch_metrics
from ditfuse_jax.evaluate.metrics.compute import compute_metrics, compute_metrics_of_candidates
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
