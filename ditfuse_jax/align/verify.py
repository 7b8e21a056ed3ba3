"""Checks a warp by the matches of blocks after it.

No part of the images may need a further shift, and every warp near this one has to match worse.
"""

import dataclasses

import cv2
import numpy as np

from ditfuse_jax.align.blocks import BlockMatches, BlockShift, match_blocks, shift_of_blocks
from ditfuse_jax.align.geometry import pixel_scaling
from ditfuse_jax.align.nearby import Nearby, try_nearby
from ditfuse_jax.align.warp import common_rectangle

# Longer side in pixels at which the images are compared, and how far a shift is searched there.
SIDE, _RADIUS = 640, 6
# Share of the blocks' draws at which nothing is left of the confidence.  Images of different pairs
# reach .51 on RoadScene and .66 on TNO; all pairs of RoadScene have at least .87.
_NO_AGREEMENT = 2 / 3
# The same for the draws in which each warp nearby is worse.  A richer model has more warps nearby,
# and a simpler one may take its place.
_UNDETERMINED = {"translation": 0.4, "similarity": 0.4, "affine": 2 / 3, "homography": 2 / 3}


def shrink_of(size: tuple[int, ...]) -> float:
    """Returns by which factor an image of (height, width) is made smaller to be compared."""
    return min(1.0, SIDE / max(size))


def shrunk(image: np.ndarray, factor: float) -> np.ndarray:
    """Returns a grey image at another size, float32 (h, w)."""
    size = tuple(max(1, round(side * factor)) for side in image.shape[::-1])
    return image if factor == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def remaining_shift(
    reference: np.ndarray, moving: np.ndarray, matrix: np.ndarray
) -> tuple[BlockShift, float]:
    """Returns the shift that is left after a warp, and the share of the reference with a partner.

    Args:
      reference, moving: grey, float32 (h, w) and (h', w').
      matrix: reference pixels -> moving pixels, as is the shift.
    """
    matches, _, overlap = _matches(reference, moving, matrix)
    return shift_of_blocks(matches).scaled(1 / shrink_of(reference.shape)), overlap


def check_warp(
    reference: np.ndarray, moving: np.ndarray, matrix: np.ndarray, model: str
) -> tuple[BlockShift, float, Nearby]:
    """Returns what `remaining_shift` does, and what warps of the model near this one do."""
    matches, size, overlap = _matches(reference, moving, matrix)
    left = shift_of_blocks(matches).scaled(1 / shrink_of(reference.shape))
    return left, overlap, try_nearby(matches, model, size)


def _matches(
    reference: np.ndarray, moving: np.ndarray, matrix: np.ndarray
) -> tuple[BlockMatches | None, tuple[int, ...], float]:
    """Returns the matches of blocks after a warp, the size of the small reference, the overlap."""
    factor = shrink_of(reference.shape)
    small = shrunk(reference, factor)
    # The moving image is not enlarged, and has no more pixels than the small reference.
    ratio = float(np.sqrt(moving.size / reference.size))
    other = shrunk(moving, min(1.0, factor / ratio))
    to_small = pixel_scaling(reference.shape, small.shape)
    to_other = pixel_scaling(moving.shape, other.shape)
    warp = to_other @ matrix @ np.linalg.inv(to_small)
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, small.shape[::-1]
    warped = cv2.warpPerspective(other, warp, size, flags=flags)
    covered = cv2.warpPerspective(np.ones_like(other), warp, size, flags=flags) > 0.999
    rows, columns = common_rectangle([covered])
    matches = match_blocks(small[rows, columns], warped[rows, columns], _RADIUS)
    if matches is not None:
        centres = matches.centres + np.array([columns.start, rows.start])
        matches = dataclasses.replace(matches, centres=centres)
    return matches, small.shape, float(covered.mean())


def confidence_in(found: BlockShift) -> float:
    """Returns how far blocks agree on a shift, 0 to 1."""
    return max(0.0, (found.agreement - _NO_AGREEMENT) / (1 - _NO_AGREEMENT))


def confidence_nearby(found: Nearby, model: str) -> float:
    """Returns how far a warp is determined, 0 to 1."""
    nothing = _UNDETERMINED[model]
    return max(0.0, (found.determined - nothing) / (1 - nothing))
