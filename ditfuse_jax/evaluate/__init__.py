"""Evaluation: metrics, baselines, scores of methods on sets of images, reports, control by text.

Names are imported when they are used, so that `evaluate.metrics` alone loads no model.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "EvaluationOptions": "runner.evaluate",
    "Exports": "reports.exports",
    "Folders": "runner.scenes",
    "HeldOut": "runner.during_training",
    "evaluate": "runner.evaluate",
    "evaluate_control": "instruction_following.control",
    "evaluate_files": "runner.evaluate",
    "evaluate_segmentation": "instruction_following.segmentation",
    "evaluate_suite": "runner.evaluate_suite",
    "parse_methods": "runner.methods",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
