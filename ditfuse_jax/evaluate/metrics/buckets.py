"""The few sizes that images are padded to before they are scored, so that programs are shared."""

import bisect

import numpy as np

# Pixels.  Between two there is at most a factor of 2; 480 and 640 are those of many images.  All
# are divisible by 32: blocks of 16 pixels and four halvings fit.
SIDES = (128, 256, 480, 544, 640, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
_STEP = 2048  # beyond the largest


def bucket(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width that images of a height and width are padded to."""
    return _side(size[0]), _side(size[1])


def _side(side: int) -> int:
    place = bisect.bisect_left(SIDES, side)
    return SIDES[place] if place < len(SIDES) else -(-side // _STEP) * _STEP


def padded(images: np.ndarray) -> np.ndarray:
    """Pads `(..., H, W)` with zeros on the right and at the bottom to the size of its bucket."""
    *leading, height, width = images.shape
    result = np.zeros((*leading, *bucket((height, width))), images.dtype)
    result[..., :height, :width] = images
    return result
