"""Scoring fused images: metrics, baselines to read them against, picture sheets and reports."""

from ditfuse_jax.evaluate.during_training import HeldOut
from ditfuse_jax.evaluate.evaluate import evaluate, evaluate_files

__all__ = ["HeldOut", "evaluate", "evaluate_files"]
