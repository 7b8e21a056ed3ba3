"""Scoring fused images: metrics, baselines to read them against, picture sheets and reports."""

from ditfuse_jax.evaluate.control import evaluate_control
from ditfuse_jax.evaluate.during_training import HeldOut
from ditfuse_jax.evaluate.evaluate import Scoring, evaluate, evaluate_files
from ditfuse_jax.evaluate.exports import Exports
from ditfuse_jax.evaluate.methods import parse_methods
from ditfuse_jax.evaluate.scenes import Folders
from ditfuse_jax.evaluate.segmentation import evaluate_segmentation
from ditfuse_jax.evaluate.suite import evaluate_suite

__all__ = [
    "Exports",
    "Folders",
    "HeldOut",
    "Scoring",
    "evaluate",
    "evaluate_control",
    "evaluate_files",
    "evaluate_segmentation",
    "evaluate_suite",
    "parse_methods",
]
