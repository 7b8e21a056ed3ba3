"""Restoring a source that has a defect, by classical means: the inverse of `defects.py`.

For models that were not taught to repair.  What is restored is known (the request names the
defect), how strong it is, is estimated from the image.
"""

from collections.abc import Callable

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS
from ditfuse_jax.degrade.darkness import estimate_darkening, undo_darkening
from ditfuse_jax.degrade.deblur import deblur
from ditfuse_jax.images.guided_filter import guided_filter
from ditfuse_jax.registry import Registry

Restoration = Callable[[np.ndarray], np.ndarray]

RESTORATIONS: Registry[Restoration] = Registry("restoration")

_USUAL_LUMA = 0.44  # mean of well-exposed photographs, of the range
_GAMMAS = (0.28, 1.0)  # between which a dark image is brightened
_MOST_NOISE = 50.0  # levels
_HAZE = 0.6  # share of the dark channel that is taken for haze
_LEAST_AIRLIGHT = 120.0  # levels
_THINNEST = 0.2  # transmission below which haze is not removed further
_CAST_SHARE = 0.8  # share of the estimated cast that is removed


def noise_deviation(image: np.ndarray) -> float:
    """Returns the deviation of white noise, in levels, of float32 (H, W) or (H, W, 3).

    The median absolute deviation of the finest diagonal differences, of the channel with the most
    (Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994).
    """
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    diagonal = (even[::2, ::2] - even[1::2, ::2] - even[::2, 1::2] + even[1::2, 1::2]) / 2
    if not diagonal.size:
        return 0.0
    return float(np.max(np.median(np.abs(diagonal), axis=(0, 1)) / 0.6745))


@RESTORATIONS.register("noisy")
def denoise(image: np.ndarray) -> np.ndarray:
    """Non-local means (Buades et al. 2005), as strong as the noise is estimated to be.

    Args:
      image: float32 (H, W, 3) in 0..255.
    """
    deviation = min(noise_deviation(image), _MOST_NOISE)
    if deviation < 1:
        return image
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if (pixels == pixels[..., :1]).all():
        cleaned = cv2.fastNlMeansDenoising(pixels[..., 0], None, 1.1 * deviation, 5, 15)
        return np.repeat(cleaned[..., None], 3, axis=2).astype(np.float32)
    strength = 0.9 * deviation
    cleaned = cv2.fastNlMeansDenoisingColored(pixels, None, strength, strength, 5, 15)
    return cleaned.astype(np.float32)


@RESTORATIONS.register("dark")
def brighten(image: np.ndarray) -> np.ndarray:
    """Undoes the low light that the image's noise and brightest pixels show; see `darkness.py`.

    Without such noise, as in an underexposed or a denoised image, how bright the scene was cannot
    be told: it is exposed as photographs usually are.

    Args:
      image: float32 (H, W, 3) in 0..255.
    """
    strength = estimate_darkening(image)
    if strength is None:
        return expose(denoise(image), _USUAL_LUMA)
    return undo_darkening(image, strength)


def expose(image: np.ndarray, level: float) -> np.ndarray:
    """Stretches the brightest pixels to white and raises the rest by a gamma.

    Args:
      image: float32 (H, W, 3) in 0..255.
      level: the mean luma to reach, of the range; an image is not made darker for it.
    """
    light = image / 255
    luma = light @ LUMA_WEIGHTS
    white = max(float(np.percentile(luma, 99.7)), float(luma.mean()) / level, 0.02)
    luma = np.clip(luma / white, 0, 1)
    low, high = _GAMMAS
    for _ in range(12):  # bisection: the mean falls with the gamma
        gamma = (low + high) / 2
        low, high = (gamma, high) if np.mean(luma**gamma) > level else (low, gamma)
    return 255 * np.clip(light / white, 0, 1) ** gamma


@RESTORATIONS.register("hazy")
def dehaze(image: np.ndarray) -> np.ndarray:
    """Dark channel prior (He et al. 2009) with a grey airlight, refined by a guided filter.

    Args:
      image: float32 (H, W, 3) in 0..255.
    """
    radius = max(3, round(0.02 * min(image.shape[:2])))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    luma = image @ LUMA_WEIGHTS
    dark = cv2.erode(image.min(axis=-1), kernel)
    airlight = max(float(np.median(luma[dark >= np.percentile(dark, 99)])), _LEAST_AIRLIGHT)
    thick = cv2.erode((image / airlight).min(axis=-1), kernel)
    veiled = 1 - _HAZE * np.clip(thick, 0, 1)
    transmission = guided_filter(veiled, luma / 255, 4 * radius, 1e-3)
    transmission = np.clip(transmission, _THINNEST, 1)[..., None]
    return np.clip((image - airlight) / transmission + airlight, 0, 255)


@RESTORATIONS.register("cast")
def balance(image: np.ndarray) -> np.ndarray:
    """White balance: the mean colour and the mean colour of the edges are taken for grey.

    The geometric mean of shades of grey (Finlayson and Trezzi 2004) and grey edges (van de Weijer
    et al. 2007): each alone is misled by large coloured areas or by coloured texture.  The mean
    luma stays.

    Args:
      image: float32 (H, W, 3) in 0..255.
    """
    of_colours = _minkowski_mean(image / 255, 3.0)
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    slopes = (cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    of_edges = _minkowski_mean(np.hypot(*slopes), 2.0)
    gains = (of_colours * of_edges) ** (-_CAST_SHARE / 2)
    balanced = image * gains
    before, after = image @ LUMA_WEIGHTS, balanced @ LUMA_WEIGHTS
    return np.clip(balanced * (before.mean() / max(after.mean(), 1e-3)), 0, 255)


@RESTORATIONS.register("stripes")
def destripe(image: np.ndarray) -> np.ndarray:
    """Subtracts the offset of each column, or of each row, whichever differ more.

    Neighbouring offsets differ by the median difference of neighbouring pixels.

    Args:
      image: float32 (H, W, 3) in 0..255.
    """
    luma = image @ LUMA_WEIGHTS
    steps = [np.median(np.diff(luma, axis=axis), axis=1 - axis) for axis in (1, 0)]
    vertical = np.abs(steps[0]).mean() >= np.abs(steps[1]).mean() if steps[0].size else False
    offsets = np.concatenate([[0], np.cumsum(steps[0 if vertical else 1])]).astype(np.float32)
    smooth = cv2.GaussianBlur(offsets[None], (0, 0), 12.0, borderType=cv2.BORDER_REFLECT)[0]
    pattern = offsets - smooth
    shaped = pattern[None, :, None] if vertical else pattern[:, None, None]
    return np.clip(image - shaped, 0, 255)


@RESTORATIONS.register("blurred")
def sharpen(image: np.ndarray) -> np.ndarray:
    """Removes the blur of defocus or motion; see `deblur`.

    Args:
      image: float32 (H, W, 3) in 0..255.
    """
    return deblur(image, noise_deviation(image))


def _minkowski_mean(values: np.ndarray, power: float) -> np.ndarray:
    """Returns the means of the channels, (3,), divided by their mean; 1 for an image of zeros."""
    means = np.mean(np.power(values, power), axis=(0, 1)) ** (1 / power)
    return np.maximum(means, 1e-3) / max(float(means.mean()), 1e-3) if means.any() else means + 1
