"""Fusion metrics in JAX: one file per family, one function per metric, one table of them all."""

from ditfuse_jax.evaluate.metrics.batch import score_batch
from ditfuse_jax.evaluate.metrics.metric import Metric
from ditfuse_jax.evaluate.metrics.registry import METRICS
from ditfuse_jax.evaluate.metrics.score import score, score_candidates

__all__ = ["METRICS", "Metric", "score", "score_batch", "score_candidates"]
