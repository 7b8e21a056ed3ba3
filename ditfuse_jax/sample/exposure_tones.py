"""Multi-exposure fusion with even tones: what is equal in all exposures gets one luma nearby.

The model weights the low frequencies of the exposures place by place; on flat walls, skies and snow
the weights may wander, which shows as grey smudges.  Within a window of 30 % of the image, the
coarse luma is therefore made a quadratic function of the exposures' luma.  Fine detail and chroma
stay.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ditfuse_jax.images import unit_luma
from ditfuse_jax.images.guided_filter import guided_coefficients

_FITTED_SIDE = 160  # pixels of the longer side of the image that is fitted
_CHANGED_SIDE = 640  # of the one that tells the change; larger images change as smoothly
_WINDOW = 0.15  # radius of the window, in shares of the longer side
_EPSILON = 1e-3  # of luma in 0..1
_COARSE = 0.01  # sigma of what is changed, in shares of the longer side
_STRIP = 512  # rows: the float images take many times the memory of an 8-bit one


def even_tones(image: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """Removes smudges from an image that was fused from exposures.

    Args:
      image: the fused image, uint8 or uint16 (H, W, 3).
      sources: the exposures of its size, of 8 or 16 bits each.

    Returns:
      (H, W, 3), of the image's type.
    """
    height, width = image.shape[:2]
    change = _change(*(_small_luma(one) for one in (image, *sources)))
    change = cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR)
    largest = np.iinfo(image.dtype).max
    result = np.empty_like(image)
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP)
        moved = image[rows] + largest * change[rows, :, None]
        result[rows] = np.clip(np.rint(moved), 0, largest)
    return result


def _small_luma(image: np.ndarray) -> np.ndarray:
    """Returns the luma in 0..1 of an image that is reduced to at most `_CHANGED_SIDE` pixels."""
    return unit_luma(_reduced(image, _CHANGED_SIDE))


def _reduced(values: np.ndarray, longest: int) -> np.ndarray:
    height, width = values.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def _change(luma: np.ndarray, *exposures: np.ndarray) -> np.ndarray:
    """Returns what is added to the luma, float32 (h, w)."""
    height, width = luma.shape
    small = _reduced(luma, _FITTED_SIDE)
    # Products before the reduction: the mean of a product is not the product of the means.
    guides = _guides(exposures)
    fitted = np.stack([_reduced(one, _FITTED_SIDE) for one in guides], axis=-1)
    radius = max(2, round(_WINDOW * max(small.shape)))
    slopes, offset = guided_coefficients(small, fitted, radius, _EPSILON)
    change = cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR) - luma
    for k, guide in enumerate(guides):
        slope = cv2.resize(slopes[..., k], (width, height), interpolation=cv2.INTER_LINEAR)
        change += slope * guide
    sigma = _COARSE * max(height, width)
    return cv2.GaussianBlur(change, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _guides(exposures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the luma of the exposures and their products."""
    products = [one * other for k, one in enumerate(exposures) for other in exposures[k:]]
    return [*exposures, *products]
