"""Fusion metrics in JAX: one file per family, one function per metric, one table of them all."""

from ditfuse_jax.evaluate.metrics.batch import score_batch
from ditfuse_jax.evaluate.metrics.metric import Metric
from ditfuse_jax.evaluate.metrics.presets import PRESETS
from ditfuse_jax.evaluate.metrics.registry import METRICS, SUITES, register, why_undefined
from ditfuse_jax.evaluate.metrics.score import score, score_candidates

__all__ = [
    "METRICS",
    "PRESETS",
    "SUITES",
    "Metric",
    "register",
    "score",
    "score_batch",
    "score_candidates",
    "why_undefined",
]
