"""The small shift that registration leaves between two images of one size."""

import cv2
import numpy as np

from ditfuse_jax.align.blocks import BlockShift, shift_of_blocks

RESIDUAL = "residual"
# Longer side in pixels of the images that are compared, and how far a shift is searched there.
_SIDE, _RADIUS = 640, 6
# There, a shift of less is none: registered images are not resampled.
_DEADBAND = 0.5
# Share of the blocks' draws at which nothing is left of the confidence.  Images of different pairs
# reach .51 on RoadScene and .66 on TNO; all pairs of RoadScene have at least .87.
_NO_AGREEMENT = 2 / 3


def estimate_residual(reference: np.ndarray, moving: np.ndarray) -> BlockShift:
    """Returns the shift in pixels between grey images, float32 (h, w) of one size.

    Shifts of up to 6 pixels are found; of larger images, of up to 1 % of the longer side.
    """
    shrink = _shrink(reference.shape)
    if shrink < 1:
        size = tuple(round(side * shrink) for side in reference.shape[::-1])
        reference, moving = (
            cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (reference, moving)
        )
    found = shift_of_blocks(reference, moving, _RADIUS)
    return BlockShift(found.shift / shrink, found.agreement, found.spread / shrink)


def confidence_in(found: BlockShift) -> float:
    """Returns how sure a shift is, 0 to 1."""
    return max(0.0, (found.agreement - _NO_AGREEMENT) / (1 - _NO_AGREEMENT))


def is_registered(matrix: np.ndarray, size: tuple[int, int]) -> bool:
    """Returns whether a shift is too small to be worth resampling an image of (height, width)."""
    return bool(np.hypot(*matrix[:2, 2]) * _shrink(size) < _DEADBAND)


def _shrink(size: tuple[int, ...]) -> float:
    return min(1.0, _SIDE / max(size))
