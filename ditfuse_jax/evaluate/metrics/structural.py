"""Structural similarity.

Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 13(4), 2004: 11 x 11 Gaussian window of sigma 1.5, whole windows only,
K = (0.01, 0.03), dynamic range L = 255.
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import SSIM_WINDOW, Comparison
from ditfuse_jax.evaluate.metrics.grey import luminance
from ditfuse_jax.evaluate.metrics.windows import Windows

WINDOW = len(SSIM_WINDOW)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# A side of so many pixels, halved at every scale, is one window at the coarsest scale.
MULTISCALE_SMALLEST = (WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1


def source_ssim(images: Comparison) -> jax.Array:
    """SSIM = **mean** over the sources of the local similarity's mean.

    [2 m_X m_F + C1] [2 c_XF + C2] / [m_X^2 + m_F^2 + C1] [s_X^2 + s_F^2 + C2] of local means m,
    variances s^2 and covariance c.  -1 to 1; higher is closer to the sources' structure.
    """
    return jnp.mean(images.mean(ssim_maps(images)), axis=0)


def clean_ssim(images: Comparison) -> jax.Array:
    """SSIM of the fused image against the clean one, on luminance.  -1 to 1; higher is better."""
    assert images.fused_rgb is not None and images.clean_rgb is not None
    fused, clean = luminance(images.fused_rgb), luminance(images.clean_rgb)
    return source_ssim(Comparison(clean[None], fused, size=images.size))


def multiscale_ssim(images: Comparison) -> jax.Array:
    """MS-SSIM = **mean** over the sources of the product over 5 scales of SSIM^w.

    At all scales but the coarsest without the factor of the means; w = .0448 .2856 .3001 .2363
    .1333; each scale is the mean of 2 x 2 pixels of the finer one.  A negative mean counts as 0.
    0 to 1; higher is better.  Wang, Simoncelli and Bovik 2003.
    """
    value = jnp.float32(1)
    for weight in _SCALE_WEIGHTS[:-1]:
        local = structure(*images.windows, images.covariances, C2)
        value *= jnp.maximum(images.mean(local), 0) ** weight
        images = images.half
    value *= jnp.maximum(images.mean(ssim_maps(images)), 0) ** _SCALE_WEIGHTS[-1]
    return jnp.mean(value, axis=0)


def ssim_maps(images: Comparison) -> jax.Array:
    """Returns the local SSIM of sources and fused images, `(K, M, H - 10, W - 10)`."""
    return similarity(*images.windows, images.covariances, C1, C2)


def similarity(x: Windows, y: Windows, covariance: jax.Array, c1: float, c2: float) -> jax.Array:
    """Returns the local similarity of images; leading axes broadcast."""
    brightness = (2 * x.mean * y.mean + c1) / (x.mean**2 + y.mean**2 + c1)
    return brightness * structure(x, y, covariance, c2)


def structure(x: Windows, y: Windows, covariance: jax.Array, c2: float) -> jax.Array:
    """Returns the factor of `similarity` that compares contrast and structure."""
    return (2 * covariance + c2) / (x.variance + y.variance + c2)
