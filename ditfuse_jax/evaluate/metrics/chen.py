"""Metrics with a model of human contrast sensitivity: Chen and Blum, Chen and Varshney.

Both use images stretched to 0..255.  Frequencies are in cycles per image, so the viewing distance
scales with the size of the image.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.evaluate.metrics.borders import cleared
from ditfuse_jax.evaluate.metrics.buckets import padded
from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.gradients import magnitude, sobel
from ditfuse_jax.evaluate.metrics.grey import stretched, stretched_in_numpy
from ditfuse_jax.evaluate.metrics.sums import mean
from ditfuse_jax.evaluate.metrics.windows import gaussian_window, same_size

_WINDOW = 31
_BLOCK = 16
_LEAST_WEIGHT = 1e-37  # of float32


def contrast_preservation(images: Comparison) -> jax.Array:
    """Q_CB = mean of [sum over X of C_X^2 Q_XF] / [sum over X of C_X^2], Q = min(C) / max(C).

    C = |c|^3 / (c^2 + 1e-4), the masked contrast c = G_2 / G_4 - 1 of Gaussian blurs of the image
    filtered by the contrast sensitivity e^(-(r/15.387)^2) - 0.7622 e^(-(r/1.3456)^2), r the
    frequency over 15.  0 to 1; higher is better; undefined where an image is flat.  Chen and Blum
    2009.
    """
    filtered = images.prepared.get("Qcb")
    if filtered is None:
        filtered = _filtered(images.once(_stretched), _contrast_sensitivity)
    sources, fused = images.split(_contrast(filtered))
    # Where rounding leaves no contrast in either source, their weights are equal.
    weight = jnp.maximum(sources**2, _LEAST_WEIGHT)
    low, high = jnp.minimum(sources, fused), jnp.maximum(sources, fused)
    kept = jnp.where(low == high, 1, low / high)
    return images.mean(jnp.sum(weight * kept, axis=0) / jnp.sum(weight, axis=0))


def prepare_contrast_preservation(stack: np.ndarray, sources: int) -> np.ndarray:
    """Returns the filtered images, `(N, H, W)`: see `Metric.prepare`."""
    del sources
    return _filtered_in_numpy(stretched_in_numpy(stack), _contrast_sensitivity)


def regional_distance(images: Comparison) -> jax.Array:
    """Q_CV = [sum over X, blocks of S_X D_X] / [sum over X, blocks of S_X], blocks of 16 x 16.

    S = sum of |Sobel|^5 is a block's saliency, D = mean (X - F)^2 of the difference filtered by the
    contrast sensitivity 2.6 (0.0192 + 0.144 r) e^(-(0.144 r)^1.1), r the frequency over 4.  Blocks
    that extend beyond the border are padded with zeros.  Squared grey levels, at least 0; lower is
    better; undefined where all sources are flat.  Chen and Varshney 2007.
    """
    stack = images.once(_stretched)
    sources, fused = images.split(stack)
    saliency = _blocks(cleared(magnitude(*sobel(sources)), images.size) ** 5)
    filtered = images.prepared.get("Qcv")
    if filtered is None:
        filtered = _filtered(sources - fused, _difference_sensitivity)
    distance = _blocks(filtered**2) / _BLOCK**2
    return jnp.sum(saliency * distance, axis=(0, 2, 3)) / jnp.sum(saliency)


def prepare_regional_distance(stack: np.ndarray, sources: int) -> np.ndarray:
    """Returns the filtered differences, `(K, M, H, W)`: see `Metric.prepare`."""
    stack = stretched_in_numpy(stack)
    return _filtered_in_numpy(
        stack[:sources, None] - stack[None, sources:], _difference_sensitivity
    )


def _stretched(images: Comparison) -> jax.Array:
    """Sources and fused images, `(K + M, H, W)`."""
    return stretched(images.stack, images.size)


def _contrast(images: jax.Array) -> jax.Array:
    fine, coarse = (same_size(images, _gaussian(sigma)) for sigma in (2.0, 4.0))
    contrast = jnp.abs(fine / coarse - 1)
    return contrast**3 / (contrast**2 + 1e-4)


def _contrast_sensitivity(frequency: Any) -> Any:
    r, xp = frequency / 15, _namespace(frequency)
    return xp.exp(-((r / 15.387) ** 2)) - 0.7622 * xp.exp(-((r / 1.3456) ** 2))


def _difference_sensitivity(frequency: Any) -> Any:
    r, xp = frequency / 4, _namespace(frequency)
    return 2.6 * (0.0192 + 0.144 * r) * xp.exp(-((0.144 * r) ** 1.1))


def _namespace(array: Any) -> Any:
    return np if isinstance(array, np.ndarray) else jnp


def _gaussian(sigma: float) -> np.ndarray:
    """A Gaussian of integral one, sampled and not renormalised, as in the authors' code."""
    window = gaussian_window(_WINDOW, sigma)
    return window / window[_WINDOW // 2] / (np.sqrt(2 * np.pi) * sigma)


def _frequencies(shape: tuple[int, ...]) -> jax.Array:
    """Distances from the zero frequency, `(H, W // 2 + 1)`, in cycles per image."""
    height, width = shape[-2:]
    rows = jnp.fft.fftfreq(height) * height
    columns = jnp.fft.rfftfreq(width) * width
    return magnitude(rows[:, None], columns[None, :])


def _filtered(images: jax.Array, sensitivity: Callable[[Any], Any]) -> jax.Array:
    response = sensitivity(_frequencies(images.shape))
    # The mean is filtered separately: it is so large that other frequencies would lose digits.
    level = jnp.round(mean(images))[..., None, None]
    detail = jnp.fft.irfft2(jnp.fft.rfft2(images - level) * response, s=images.shape[-2:])
    return detail + level * response[0, 0]


def _filtered_in_numpy(images: np.ndarray, sensitivity: Callable[[Any], Any]) -> np.ndarray:
    # SciPy's transforms have several threads, and no size has to be compiled.
    import scipy.fft

    height, width = images.shape[-2:]
    rows, columns = np.fft.fftfreq(height) * height, np.fft.rfftfreq(width) * width
    response = sensitivity(np.hypot(rows[:, None], columns))
    with scipy.fft.set_workers(-1):
        spectrum = np.asarray(scipy.fft.rfft2(images))
        spectrum *= response
        images = np.asarray(scipy.fft.irfft2(spectrum, s=(height, width)))
    return padded(images.astype(np.float32))


def _blocks(images: jax.Array) -> jax.Array:
    """Returns sums over blocks of `(K, M, H, W)`, zero-padded at the lower and right border."""
    *leading, height, width = images.shape
    borders = [(0, 0), (0, 0), (0, -height % _BLOCK), (0, -width % _BLOCK)]
    images = jnp.pad(images, borders).reshape(*leading, -(-height // _BLOCK), _BLOCK, -1, _BLOCK)
    return images.sum(axis=(-3, -1))
