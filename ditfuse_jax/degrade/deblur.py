"""Removing an unknown blur from an image: the kernel from the power spectrum, then Wiener's filter.

Photographs have spectra that fall smoothly, about as a power of the frequency; the zeros and
lobes of a spectrum are the kernel's.  The candidate kernels are those of `defects.blurred`: discs
(defocus) and lines (motion).
"""

import functools

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS
from ditfuse_jax.degrade.defocus import disc

_BLOCK = 64  # side of the blocks whose spectra are averaged (Welch 1967)
SMALLEST_SIDE = _BLOCK  # of an image whose kernel can be estimated
_RADII = np.arange(1, 4.01, 0.25)
_ANGLES = 12  # directions of lines
_BAND = (0.06, 0.5)  # frequencies in cycles per pixel that are compared
_ROUNDING = 0.1  # variance of the noise of 8-bit samples
# Exponents of the spectra of photographs; kernels that need others are less likely.
_EXPONENTS = (1.6, 3.0)
_UNLIKELY = 0.04
_NOISE_SHARE = 0.1  # of the measured variance: texture is measured too
_STEADY = 0.003  # keeps the filter finite at the zeros of the kernel
_MARGIN = 24  # pixels, reflected


def motion_line(radius: float, angle: float) -> np.ndarray:
    """Returns the kernel of motion along a line, float32 (K, K).

    Args:
      radius: half the length, in pixels.
      angle: of the line, in radians.
    """
    side = 2 * int(np.ceil(radius)) + 1
    offset = radius * np.array([np.cos(angle), np.sin(angle)])
    ends = (side // 2 + sign * offset for sign in (-1, 1))
    start, stop = (tuple(round(16 * value) for value in end) for end in ends)
    drawn = cv2.line(np.zeros((side, side), np.uint8), start, stop, 255, 1, cv2.LINE_AA, 4)
    return (drawn / drawn.sum()).astype(np.float32)


def estimate_kernel(luma: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """Returns the likeliest kernel and the image's spectrum `scale * f ** exponent`.

    Args:
      luma: float32 (H, W) in 0..255.

    Returns:
      kernel (K, K), scale, exponent; None for an image that is too small or too flat to tell.
    """
    power = _power_spectrum(luma)
    if power is None:
        return None
    vertical, horizontal = _frequencies(_BLOCK, _BLOCK)
    frequency = np.hypot(vertical, horizontal)
    used = (frequency > _BAND[0]) & (frequency < _BAND[1]) & (vertical != 0) & (horizontal != 0)
    direction = np.arctan2(np.broadcast_to(vertical, used.shape), horizontal)[used]
    # The spectrum without blur may also differ between directions.
    terms = [np.ones(used.sum()), np.log(frequency[used])]
    terms += [np.cos(2 * direction), np.sin(2 * direction), np.cos(4 * direction)]
    model, measured = np.stack(terms, axis=1), power[used]
    best = None
    for kernel, transfer in _candidates():
        passed = transfer[used]
        weight = np.sqrt(passed)
        sharp = np.log(np.maximum(measured - _ROUNDING, 1e-3) / (passed + 1e-4))
        fitted = np.linalg.lstsq(model * weight[:, None], sharp * weight, rcond=None)[0]
        expected = np.log(np.exp(model @ fitted) * passed + _ROUNDING)
        exponent = -fitted[1]
        low, high = _EXPONENTS
        unlikely = max(0.0, exponent - high) + max(0.0, low - exponent)
        misfit = np.abs(np.log(measured) - expected).mean() + _UNLIKELY * unlikely
        if best is None or misfit < best[0]:
            best = misfit, kernel, float(np.exp(fitted[0])), float(fitted[1])
    assert best is not None
    return best[1:]


def deblur(image: np.ndarray, noise: float) -> np.ndarray:
    """Sharpens the luma of a blurred image; returns one that is too small or flat unchanged.

    Args:
      image: float32 (H, W, 3) in 0..255.
      noise: deviation of its white noise, in levels.
    """
    luma = image @ LUMA_WEIGHTS
    found = estimate_kernel(luma)
    if found is None:
        return image
    kernel, scale, exponent = found
    padded = cv2.copyMakeBorder(luma, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REFLECT_101)
    height, width = padded.shape
    transfer = np.fft.rfft2(_at_origin(kernel, height, width))
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(vertical, horizontal), 1 / max(height, width))
    ratio = max(2 * _ROUNDING, _NOISE_SHARE * noise**2) / (scale * frequency**exponent)
    inverse = np.conj(transfer) / (np.abs(transfer) ** 2 + ratio + _STEADY)
    sharp = np.fft.irfft2(np.fft.rfft2(padded) * inverse, s=padded.shape)
    change = sharp[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].astype(np.float32) - luma
    return np.clip(image + change[..., None], 0, 255)


def _power_spectrum(luma: np.ndarray) -> np.ndarray | None:
    """Returns the mean power spectrum of blocks, (_BLOCK, _BLOCK), or None if there is none."""
    window = np.hanning(_BLOCK)[:, None] * np.hanning(_BLOCK)[None]
    total, count = np.zeros((_BLOCK, _BLOCK)), 0
    for top in range(0, luma.shape[0] - _BLOCK + 1, _BLOCK // 2):
        for left in range(0, luma.shape[1] - _BLOCK + 1, _BLOCK // 2):
            block = luma[top : top + _BLOCK, left : left + _BLOCK]
            total += np.abs(np.fft.fft2((block - block.mean()) * window)) ** 2
            count += 1
    if not count:
        return None
    mean = total / (count * np.square(window).sum())
    return mean if mean.max() > 1 else None


@functools.cache
def _candidates() -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernels, that of no blur first, and the squares of their transfer functions."""
    kernels = [np.ones((1, 1), np.float32)]
    for radius in _RADII:
        kernels.append(disc(radius).astype(np.float32))
        kernels += [motion_line(radius, np.pi * k / _ANGLES) for k in range(_ANGLES)]
    shape = _BLOCK, _BLOCK
    return [(k, np.abs(np.fft.fft2(_at_origin(k, *shape))) ** 2) for k in kernels]


def _at_origin(kernel: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the kernel in an image of this size, its centre at the first pixel."""
    placed = np.zeros((height, width), np.float32)
    rows, columns = kernel.shape
    placed[:rows, :columns] = kernel
    return np.roll(placed, (-(rows // 2), -(columns // 2)), axis=(0, 1))


def _frequencies(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
