"""Fusion metrics in JAX: one file per family, one function per metric, one table of them all."""

from ditfuse_jax.evaluate.metrics.batch import batch_metrics
from ditfuse_jax.evaluate.metrics.compute import compute_metrics, compute_metrics_of_candidates
from ditfuse_jax.evaluate.metrics.metric import Metric
from ditfuse_jax.evaluate.metrics.presets import METRIC_PRESETS
from ditfuse_jax.evaluate.metrics.registry import METRIC_GROUPS, METRICS, register, why_undefined

__all__ = [
    "METRICS",
    "METRIC_GROUPS",
    "METRIC_PRESETS",
    "Metric",
    "batch_metrics",
    "compute_metrics",
    "compute_metrics_of_candidates",
    "register",
    "why_undefined",
]
