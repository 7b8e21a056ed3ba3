"""Aligns images of two cameras, also across modalities: translation to homography."""

from ditfuse_jax.align.calibration import (
    Calibration,
    calibrate,
    read_calibration,
    write_calibration,
)
from ditfuse_jax.align.estimate import AUTO
from ditfuse_jax.align.geometry import MODELS
from ditfuse_jax.align.pair import (
    ALIGNMENTS,
    MIN_CONFIDENCE,
    Alignment,
    AlignmentError,
    estimate_alignment,
)
from ditfuse_jax.align.residual import RESIDUAL
from ditfuse_jax.align.stack import AlignedStack, align_stack, calibrate_stacks
from ditfuse_jax.align.warp import Warp, common_rectangle, resample

__all__ = [
    "ALIGNMENTS",
    "AUTO",
    "MIN_CONFIDENCE",
    "MODELS",
    "RESIDUAL",
    "AlignedStack",
    "Alignment",
    "AlignmentError",
    "Calibration",
    "Warp",
    "align_stack",
    "calibrate",
    "calibrate_stacks",
    "common_rectangle",
    "estimate_alignment",
    "read_calibration",
    "resample",
    "write_calibration",
]
