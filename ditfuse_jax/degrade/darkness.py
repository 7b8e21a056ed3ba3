"""Finding how strongly a photograph was darkened, and undoing it: the inverse of `defects.dark`.

The weaker the light, the larger are the gamma, the loss of gain and the noise of the sensor, and
all three leave traces: the noise shows in the smoothest blocks, the brightest pixels bound the
gain, and photographs of a usual mean luma are likelier than others.
"""

import math

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS

_STRENGTHS = np.linspace(0, 1, 41)
_BLOCK = 12  # side of the blocks whose noise is measured, in pixels
_LEAST_BLOCKS = 16
_SMOOTHEST = 5  # percentile of the blocks
# What that percentile is for white noise: it is low among the blocks, and rounding adds a little.
_NOISE_SLOPE, _NOISE_OFFSET = 0.81, 0.1
_NOISE_ERROR = 0.07  # relative
_OTHER_NOISE = 4.0  # cost at which noise tells nothing: texture, another camera, a denoised image
_USUAL_LUMA, _LUMA_ERROR = 0.5, 0.16
_WHITE_PERCENTILE = 99.7
_WHITE_MARGIN, _WHITE_ERROR, _WHITE_COST = 1.03, 0.02, 8.0
_WHITE_SCALE = 0.25  # how fast images without white become unlikely, of the range


def darkening(strength: float) -> tuple[float, float, float]:
    """Returns the gamma, the gain and the noise's deviation in levels of low light.

    Args:
      strength: 0..1.
    """
    return 1.5 + 2 * strength, 1 - 0.5 * strength, 1 + 2 * strength


def estimate_darkening(image: np.ndarray) -> float | None:
    """Returns the likeliest strength of low light in an image.

    Args:
      image: float32 (H, W, 3) in 0..255.

    Returns:
      0..1, or None if the image's noise is that of no strength, so that nothing can be told.
    """
    luma = image @ LUMA_WEIGHTS
    noise = _smooth_noise(luma)
    if noise is None:
        return None
    levels = np.rint(np.clip(luma, 0, 255)).astype(np.uint8)
    shares = np.bincount(levels.ravel(), minlength=256) / luma.size
    white = float(np.percentile(luma, _WHITE_PERCENTILE)) / 255
    best = math.inf, 0.0, 0.0
    for strength in _STRENGTHS:
        gamma, gain, deviation = darkening(strength)
        bright = float(shares @ np.clip(np.arange(256) / 255 / gain, 0, 1) ** (1 / gamma))
        of_noise = min(((noise / deviation - 1) / _NOISE_ERROR) ** 2 / 2, _OTHER_NOISE)
        of_luma = ((bright - _USUAL_LUMA) / _LUMA_ERROR) ** 2 / 2
        cost = of_noise + of_luma + _white_cost(white / gain)
        best = min(best, (cost, float(strength), of_noise))
    return None if best[2] == _OTHER_NOISE else best[1]


def undo_darkening(image: np.ndarray, strength: float) -> np.ndarray:
    """Removes the noise of low light, its gain and its gamma.

    The noise is removed by a bilateral filter (Tomasi and Manduchi 1998).  Noise about black is
    clipped below it and has a mean above, which is taken away.

    Args:
      image: float32 (H, W, 3) in 0..255.
      strength: 0..1, see `estimate_darkening`.

    Returns:
      float32 (H, W, 3) in 0..255.
    """
    gamma, gain, deviation = darkening(strength)
    # The filter adds the differences of the three channels.
    smooth = cv2.bilateralFilter(image.astype(np.float32), 9, 9 * deviation, 2.0)
    signal = np.linspace(0, 4, 100)
    density = np.exp(-np.square(signal) / 2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in signal])
    clipped = deviation * (density + signal * below)  # the mean of max(0, signal + noise)
    known = np.append(clipped, 255 + clipped[-1]), np.append(deviation * signal, 255 + clipped[-1])
    light = np.interp(smooth, *known) / (255 * gain)
    return (255 * np.clip(light, 0, 1) ** (1 / gamma)).astype(np.float32)


def _white_cost(white: float) -> float:
    """Returns how unlikely it is that the brightest pixels of the scene have this value."""
    if white > _WHITE_MARGIN:
        return min(((white - _WHITE_MARGIN) / _WHITE_ERROR) ** 2 / 2, _WHITE_COST)
    return max(0.0, 1 - white) / _WHITE_SCALE


def _smooth_noise(luma: np.ndarray) -> float | None:
    """Returns the deviation of the noise in the smoothest blocks that no pixel of is black.

    By the operator of Immerkaer, "Fast noise variance estimation", 1996.
    """
    line = np.array([1, -2, 1], np.float32) / math.sqrt(6)
    fine = cv2.filter2D(luma, cv2.CV_32F, line[:, None] * line, borderType=cv2.BORDER_REFLECT_101)
    rows, columns = (length // _BLOCK for length in luma.shape)

    def blocks(values: np.ndarray) -> np.ndarray:
        cut = values[: rows * _BLOCK, : columns * _BLOCK]
        return cut.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2).reshape(-1, _BLOCK**2)

    lit = blocks(luma).min(axis=1, initial=np.inf) > 0
    if lit.sum() < _LEAST_BLOCKS:
        return None
    energies = np.square(blocks(fine)[lit]).mean(axis=1)
    least = math.sqrt(float(np.percentile(energies, _SMOOTHEST)))
    return (least - _NOISE_OFFSET) / _NOISE_SLOPE
