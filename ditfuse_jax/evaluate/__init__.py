"""Scoring fused images: metrics, baselines to read them against, picture sheets and reports."""

from ditfuse_jax.evaluate.control import evaluate_control
from ditfuse_jax.evaluate.during_training import HeldOut
from ditfuse_jax.evaluate.evaluate import evaluate, evaluate_files
from ditfuse_jax.evaluate.segmentation import evaluate_segmentation

__all__ = [
    "HeldOut",
    "evaluate",
    "evaluate_control",
    "evaluate_files",
    "evaluate_segmentation",
]
