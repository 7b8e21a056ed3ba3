"""MEF-SSIM: similarity to the structure that a multi-exposure fusion should have, patch by patch.

Ma, Zeng and Wang, "Perceptual quality assessment for multi-exposure image fusion", IEEE TIP 24(11),
2015.  Any number of sources.
"""

import math

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import SSIM_WINDOW, Comparison
from ditfuse_jax.evaluate.metrics.structural import C2
from ditfuse_jax.evaluate.metrics.windows import Windows, box_window

_SIDE = len(SSIM_WINDOW)
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001)
MULTISCALE_SMALLEST = (_SIDE - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
_LARGEST_POWER = 10.0
# tan(pi/2 R) reaches the largest power here; at R = 1, float32's pi/2 is above pi/2.
_CONSISTENT = 2 / math.pi * math.atan(_LARGEST_POWER)
_FLOOR = 0.001  # added to the contrasts, against division by zero
_EPSILON = 2.0**-52


def mef_ssim(images: Comparison) -> jax.Array:
    """MEF-SSIM, one scale = mean over 11 x 11 patches of (2 s_rf + C) / (s_r^2 + s_f^2 + C).

    r = sum of w_k x_k / |x_k|, scaled to the largest |x_k|, is the desired patch, from the sources'
    patches x_k minus their means; w_k = (|x_k| / 11)^p, p = min(tan(pi R / 2), 10),
    R = |sum x_k| / sum |x_k|; C = (0.03 x 255)^2.  -1 to 1; higher is better.
    """
    factor = _desired(images)
    sources, fused = images.windows
    variance = _form(factor, _pairs(sources[:, 0]))
    covariance = jnp.sum(factor[:, None] * images.covariances, axis=0)
    return images.mean((2 * covariance + C2) / (variance + fused.variance[0] + C2))


def multiscale_mef_ssim(images: Comparison) -> jax.Array:
    """MEF-SSIM as published = product over 3 scales of MEF-SSIM^w, w ~ .0448 .2856 .3001.

    The weights are normalised; each scale is the mean of 2 x 2 pixels of the finer one.  A negative
    mean counts as 0.  0 to 1; higher is better.
    """
    value = jnp.float32(1)
    for weight in _SCALE_WEIGHTS:
        value *= jnp.maximum(images.once(mef_ssim), 0) ** (weight / sum(_SCALE_WEIGHTS))
        images = images.half
    return value


def _desired(images: Comparison) -> jax.Array:
    """The factors of the sources' patches that sum to the desired patch, `(K, h, w)`."""
    # Only norms are needed: they follow from covariances under a square window.
    inner = _SIDE**2 * _pairs(Windows(images.sources[:, 0], box_window(_SIDE)))
    contrast = jnp.sqrt(jnp.array([inner[k, k] for k in range(len(inner))]))
    together = jnp.sqrt(jnp.maximum(jnp.sum(inner, axis=(0, 1)), 0))
    consistency = (together + _EPSILON) / (jnp.sum(contrast, axis=0) + _EPSILON)
    power = jnp.where(
        consistency < _CONSISTENT,
        jnp.tan(math.pi / 2 * jnp.minimum(consistency, _CONSISTENT)),
        _LARGEST_POWER,
    )
    contrast += _FLOOR
    weight = (contrast / _SIDE) ** power + _EPSILON
    factor = weight / jnp.sum(weight, axis=0) / contrast
    norm = jnp.sqrt(jnp.maximum(_form(factor, inner), 0))
    scale = jnp.where(norm > 0, jnp.max(contrast, axis=0) / jnp.where(norm > 0, norm, 1), 1)
    return factor * scale


def _pairs(windows: Windows) -> jax.Array:
    """Local covariances of all pairs of K images, `(K, K, h, w)`."""
    stack = range(len(windows.mean))
    pairs = {(i, j): windows[i].covariance(windows[j]) for i in stack for j in stack if i < j}
    pairs |= {(i, i): windows.variance[i] for i in stack}
    return jnp.array([[pairs[min(i, j), max(i, j)] for j in stack] for i in stack])


def _form(factor: jax.Array, covariances: jax.Array) -> jax.Array:
    """The covariance of the sum of c_k x_k with itself."""
    return jnp.sum(factor[:, None] * factor[None] * covariances, axis=(0, 1))
