"""Luma, and limiting the chroma of a fused image to that of its sources."""

from collections.abc import Sequence

import cv2
import numpy as np

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # BT.601
_DARK = 16.0  # luma below which a source's colour is mostly noise
_STRIP = 256  # rows
_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)


def is_grey(image: np.ndarray) -> bool:
    """Whether the three channels of an image (H, W, 3) are equal."""
    red, green, blue = (image[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(red, blue)


def unit_luma(image: np.ndarray) -> np.ndarray:
    """Returns the luma (BT.601) of uint8 or uint16 (H, W, 3) as float32 (H, W) in 0..1."""
    weights = np.array([_RED, _GREEN, _BLUE], np.float32) / np.iinfo(image.dtype).max
    return cv2.transform(image.astype(np.float32), weights[None])


def limit_chroma(
    image: np.ndarray, sources: Sequence[np.ndarray], *, relative: bool = False
) -> np.ndarray:
    """Reduces the chroma of an image where no source has as much nearby.

    The luma stays.  Where all sources are grey, the three channels become equal.

    Args:
      image: uint8 or uint16 (H, W, 3).
      sources: images of the same size, of 8 or 16 bits each.
      relative: compare the ratio of chroma and luma: an image that is brighter than its sources may
        have more chroma.

    Returns:
      (H, W, 3), of the image's type.
    """
    # In strips, since the float images take 20 times the memory of an 8-bit one.
    result = np.empty_like(image)
    for top in range(0, len(image), _STRIP):
        above = min(top, 1)  # a row of the neighbourhood
        rows = slice(top - above, top + _STRIP + 1)
        strip = _limit_strip(image[rows], [source[rows] for source in sources], relative)
        result[top : top + _STRIP] = strip[above : above + _STRIP]
    return result


def _limit_strip(image: np.ndarray, sources: list[np.ndarray], relative: bool) -> np.ndarray:
    luma, chroma = _split(image)
    limit = np.zeros_like(luma)
    for source in sources:
        of_source, difference = _split(source)
        strength = _length(difference)
        if relative:
            strength *= np.maximum(1, luma / np.maximum(of_source, _DARK))
        limit = np.maximum(limit, strength)
    limit = cv2.dilate(limit, _NEIGHBOURHOOD)
    strength = _length(chroma)
    too_strong = strength > limit
    if not too_strong.any():
        return image
    luma, limit, strength, red, blue = (x[too_strong] for x in (luma, limit, strength, *chroma))
    share = limit / np.maximum(strength, 1e-6)
    red, blue = luma + share * red, luma + share * blue
    green = (luma - _RED * red - _BLUE * blue) / _GREEN
    unit, largest = _unit(image), np.iinfo(image.dtype).max
    limited = np.rint(np.stack([red, green, blue], axis=-1) * unit)
    result = image.copy()
    result[too_strong] = np.clip(limited, 0, largest).astype(image.dtype)
    return result


def _length(chroma: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Two planes (H, W) -> (H, W)."""
    return cv2.magnitude(*chroma)


def _split(image: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns luma and chroma, red - luma and blue - luma, (H, W) float32 of 0..255 each."""
    unit = _unit(image)
    red, green, blue = (plane.astype(np.float32) / unit for plane in cv2.split(image))
    luma = _RED * red + _GREEN * green + _BLUE * blue
    return luma, (red - luma, blue - luma)


def _unit(image: np.ndarray) -> np.float32:
    """The pixel value that an 8-bit 1 corresponds to."""
    return np.float32(np.iinfo(image.dtype).max / 255)
