"""Operations on a fused image that change one axis and keep what is measured of the others.

The operations of `adjust.py` define how far a request goes; their tone curve also changes the
spread of the luma, and their stretch clips it and with it the colour.  Here the curve has two
parameters, so mean and spread of the luma can be set at once; the chroma and the finest band are
scaled by one factor each.
"""

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import (
    AXIS_OPERATIONS,
    LUMA_WEIGHTS,
    chroma_room,
    scale_chroma,
    with_luma,
)

_EXPONENTS = (0.5, 3.0)  # of `tone_curve`
_OFFSETS = (-8.0, 8.0)
_FLAT = 0.5  # levels of deviation below which an image has no contrast that could be kept
_FINE_SIGMA = 1.0  # of the low-pass below the finest band, in pixels
_FINE_GAINS = (0.7, 1.4)
_CHROMA_FACTORS = (0.5, 1.6)


def apply_axis(
    image: np.ndarray, axis: str, level: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Changes an axis as far as its operation in `AXIS_OPERATIONS` does, and keeps the others.

    Brightness: the mean luma that the operation gives, with the spread that the image has.
    Contrast: the spread that it gives, with the image's mean; a curve raises it and clips nothing.
    Both keep the mean chroma relative to the luma, and the energy of the finest band relative to
    the spread, as far as RGB and moderate factors allow.  Detail: half of the spread that the
    raised bands add is taken back, by pressing the luma about its mean; all of it would flatten
    areas without detail.

    Args:
      image: float32 (H, W, 3) in 0..255.
      axis: the name of the operation.
      level: -2, -1, 1 or 2.
      weights: float32 (H, W), those of the pixels in means; all count the same by default.

    Returns:
      float32 (H, W, 3), not clipped.

    Raises:
      UserError: there is no such operation.
    """
    changed = AXIS_OPERATIONS.find(axis)(image, level, weights)
    if weights is not None and not weights.any():
        weights = None
    luma, wanted = image @ LUMA_WEIGHTS, changed @ LUMA_WEIGHTS
    middle, spread = _moments(luma, weights)
    wanted_middle, wanted_spread = _moments(wanted, weights)
    if axis == "detail":
        factor = np.sqrt(spread / max(wanted_spread, _FLAT)) if spread > _FLAT else 1.0
        pressed = wanted_middle + factor * (wanted - wanted_middle)
        return changed + (pressed - wanted)[..., None]
    if axis == "brightness":
        changed = _toned(image, luma, wanted_middle, spread, weights)
    elif axis == "contrast" and level > 0:
        changed = _toned(image, luma, middle, wanted_spread, weights)
    elif axis != "contrast":  # pressing the luma needs no curve
        return changed
    changed = _with_detail_of(image, changed, weights)
    return _with_saturation_of(image, changed, weights)


def tone_curve(luma: np.ndarray, exponent: float, offset: float) -> np.ndarray:
    """Returns `logit y = exponent logit x + offset`: monotone, keeps black and white.

    The offset moves the middle greys, the exponent is the slope about them.

    Args:
      luma: in 0..255, any shape.
      exponent: above 0; 1 with offset 0 changes nothing.
      offset: above 0 for brighter.
    """
    light = np.clip(luma / 255, 0, 1)
    bright = np.power(light, exponent) * np.float32(np.exp(offset))
    return 255 * bright / (bright + np.power(1 - light, exponent))


def _toned(
    image: np.ndarray, luma: np.ndarray, middle: float, spread: float, weights: np.ndarray | None
) -> np.ndarray:
    """Returns the image with a mean and, as far as a curve reaches it, a spread of the luma."""
    levels = np.rint(np.clip(luma, 0, 255)).astype(np.uint8).ravel()
    counts = np.bincount(levels, None if weights is None else weights.ravel(), minlength=256)
    shares, greys = counts / counts.sum(), np.arange(256.0)

    def fitted(exponent: float) -> tuple[float, float]:
        low, high = _OFFSETS
        for _ in range(24):  # bisection: the mean rises with the offset
            offset = (low + high) / 2
            mean = shares @ tone_curve(greys, exponent, offset)
            low, high = (offset, high) if mean < middle else (low, offset)
        toned = tone_curve(greys, exponent, offset)
        return offset, float(np.sqrt(shares @ np.square(toned - shares @ toned)))

    exponent = 1.0
    if _moments(luma, weights)[1] > _FLAT:
        low, high = _EXPONENTS
        for _ in range(16):
            exponent = (low + high) / 2
            low, high = (exponent, high) if fitted(exponent)[1] < spread else (low, exponent)
    return with_luma(image, luma, tone_curve(luma, exponent, fitted(exponent)[0]))


def _with_detail_of(
    image: np.ndarray, changed: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Scales the finest band so that its energy by the spread of the luma is that of `image`."""
    (fine, spread), (wanted, former) = _fine_band(changed, weights), _fine_band(image, weights)
    energy, of_image = (_moments(band, weights)[1] for band in (fine, wanted))
    if min(spread, former, 10 * energy) < _FLAT:
        return changed
    gain = np.clip(of_image / former * spread / energy, *_FINE_GAINS)
    return changed + ((gain - 1) * fine)[..., None]


def _fine_band(image: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, float]:
    luma = image @ LUMA_WEIGHTS
    return luma - cv2.GaussianBlur(luma, (0, 0), _FINE_SIGMA), _moments(luma, weights)[1]


def _with_saturation_of(
    image: np.ndarray, changed: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Scales the chroma so that its mean by the mean luma is that of `image`."""
    clipped = np.clip(changed, 0, 255)
    wanted = _chroma(image, weights) / max(_moments(image @ LUMA_WEIGHTS, weights)[0], 1.0)
    wanted *= _moments(clipped @ LUMA_WEIGHTS, weights)[0]
    strength = np.linalg.norm(clipped - (clipped @ LUMA_WEIGHTS)[..., None], axis=-1)
    if not strength.any() or wanted <= 0:
        return clipped
    # By the room that pixels have: their chroma can be scaled that far and no further.
    room = chroma_room(clipped)
    counted = strength if weights is None else strength * weights
    shares, edges = np.histogram(
        np.minimum(room[..., 0], _CHROMA_FACTORS[1]), 64, (1, _CHROMA_FACTORS[1]), weights=counted
    )
    limits = (edges[1:] + edges[:-1]) / 2
    pixels = strength.size if weights is None else weights.sum()
    low, high = _CHROMA_FACTORS
    for _ in range(12):
        factor = (low + high) / 2
        reached = shares @ np.minimum(factor, limits) / pixels
        low, high = (factor, high) if reached < wanted else (low, factor)
    return scale_chroma(clipped, (low + high) / 2, room)


def _chroma(image: np.ndarray, weights: np.ndarray | None) -> float:
    distance = np.linalg.norm(image - (image @ LUMA_WEIGHTS)[..., None], axis=-1)
    return _moments(distance, weights)[0]


def _moments(values: np.ndarray, weights: np.ndarray | None) -> tuple[float, float]:
    """Returns mean and standard deviation."""
    mean = float(np.average(values, weights=weights))
    return mean, float(np.sqrt(np.average(np.square(values - mean), weights=weights)))
