"""The small shift that registration leaves between two images of one size."""

import numpy as np

from ditfuse_jax.align.blocks import BlockShift
from ditfuse_jax.align.verify import remaining_shift, shrink_of

RESIDUAL = "residual"
# At 640 pixels, a shift of less is none: registered images are not resampled.
_DEADBAND = 0.5


def estimate_residual(reference: np.ndarray, moving: np.ndarray) -> BlockShift:
    """Returns the shift in pixels between grey images, float32 (h, w) of one size.

    Shifts of up to 6 pixels are found; of larger images, of up to 1 % of the longer side.
    """
    return remaining_shift(reference, moving, np.eye(3))[0]


def is_registered(matrix: np.ndarray, size: tuple[int, int]) -> bool:
    """Returns whether a shift is too small to be worth resampling an image of (height, width)."""
    return bool(np.hypot(*matrix[:2, 2]) * shrink_of(size) < _DEADBAND)
