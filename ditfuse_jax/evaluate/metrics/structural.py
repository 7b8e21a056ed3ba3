"""Structural similarity.

Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 13(4), 2004: 11 x 11 Gaussian window of sigma 1.5, whole windows only,
K = (0.01, 0.03), dynamic range L = 255.
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.grey import luminance
from ditfuse_jax.evaluate.metrics.windows import gaussian_window, local_moments

WINDOW = 11
_WEIGHTS = gaussian_window(WINDOW, sigma=1.5)
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim_map(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the local SSIM of two grey images `(H, W)`, shape `(H - 10, W - 10)`."""
    local = local_moments(x, y, _WEIGHTS)
    means = (2 * local.mean_x * local.mean_y + _C1) / (local.mean_x**2 + local.mean_y**2 + _C1)
    return means * (2 * local.covariance + _C2) / (local.variance_x + local.variance_y + _C2)


def mean_ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the mean local SSIM of two grey images `(H, W)`, sides at least 11."""
    return jnp.mean(jnp.mean(ssim_map(x, y), axis=1))


def ssim(fused: jax.Array, clean: jax.Array) -> jax.Array:
    """SSIM against the clean image, on the luminance of RGB `(H, W, 3)`."""
    return mean_ssim(luminance(fused), luminance(clean))


def source_ssim(fused: jax.Array, sources: jax.Array) -> jax.Array:
    """SSIM against grey sources `(K, H, W)`, **mean** over the sources."""
    return jnp.mean(jax.vmap(lambda source: mean_ssim(fused, source))(sources))
