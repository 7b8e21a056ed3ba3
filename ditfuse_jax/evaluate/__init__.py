"""Scoring fused images: metrics, baselines to read them against, picture sheets and reports."""

from ditfuse_jax.evaluate.instruction_following.control import evaluate_control
from ditfuse_jax.evaluate.instruction_following.segmentation import evaluate_segmentation
from ditfuse_jax.evaluate.reports.exports import Exports
from ditfuse_jax.evaluate.runner.during_training import HeldOut
from ditfuse_jax.evaluate.runner.evaluate import EvaluationOptions, evaluate, evaluate_files
from ditfuse_jax.evaluate.runner.evaluate_suite import evaluate_suite
from ditfuse_jax.evaluate.runner.methods import parse_methods
from ditfuse_jax.evaluate.runner.scenes import Folders

__all__ = [
    "EvaluationOptions",
    "Exports",
    "Folders",
    "HeldOut",
    "evaluate",
    "evaluate_control",
    "evaluate_files",
    "evaluate_segmentation",
    "evaluate_suite",
    "parse_methods",
]
