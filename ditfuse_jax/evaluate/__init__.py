"""Evaluation: metrics, baselines, scores of methods on sets of images, reports, control by text.

Names are imported when they are used, so that `evaluate.metrics` alone loads no model.
"""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes

if TYPE_CHECKING:
    from ditfuse_jax.evaluate.instruction_following.control import evaluate_control
    from ditfuse_jax.evaluate.instruction_following.region_control import evaluate_regions
    from ditfuse_jax.evaluate.instruction_following.segmentation import evaluate_segmentation
    from ditfuse_jax.evaluate.instruction_following.understanding import evaluate_understanding
    from ditfuse_jax.evaluate.reports.exports import Exports
    from ditfuse_jax.evaluate.runner.during_training import HeldOut
    from ditfuse_jax.evaluate.runner.evaluate import EvaluationOptions, evaluate, evaluate_files
    from ditfuse_jax.evaluate.runner.evaluate_degraded import evaluate_degraded
    from ditfuse_jax.evaluate.runner.evaluate_sequence import evaluate_sequence
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
    "evaluate_degraded",
    "evaluate_files",
    "evaluate_regions",
    "evaluate_segmentation",
    "evaluate_sequence",
    "evaluate_suite",
    "evaluate_understanding",
    "parse_methods",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "EvaluationOptions": f"{__name__}.runner.evaluate",
        "Exports": f"{__name__}.reports.exports",
        "Folders": f"{__name__}.runner.scenes",
        "HeldOut": f"{__name__}.runner.during_training",
        "evaluate": f"{__name__}.runner.evaluate",
        "evaluate_control": f"{__name__}.instruction_following.control",
        "evaluate_regions": f"{__name__}.instruction_following.region_control",
        "evaluate_degraded": f"{__name__}.runner.evaluate_degraded",
        "evaluate_files": f"{__name__}.runner.evaluate",
        "evaluate_segmentation": f"{__name__}.instruction_following.segmentation",
        "evaluate_sequence": f"{__name__}.runner.evaluate_sequence",
        "evaluate_suite": f"{__name__}.runner.evaluate_suite",
        "evaluate_understanding": f"{__name__}.instruction_following.understanding",
        "parse_methods": f"{__name__}.runner.methods",
    },
)
