"""Enlarging maps of cells so that their borders follow an image: the fast guided filter.

In every window a map is approximated by a linear function of the guide (He et al. 2013, "Guided
Image Filtering"); the coefficients are computed at the cells' resolution and enlarged (He and Sun
2015, "Fast Guided Filter").
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.model.wavelets import smooth

_EPSILON = 1e-3  # variance of the guide, of a value range of 2, below which a window counts as flat


def enlarge(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Enlarges (..., h, w, C) to (..., H, W, C) linearly."""
    return jax.image.resize(maps, (*maps.shape[:-3], *size, maps.shape[-1]), "linear")


def enlarge_guided(maps: jax.Array, guide: jax.Array, epsilon: float = _EPSILON) -> jax.Array:
    """Enlarges maps of cells to the size of a guide.

    Args:
      maps: (..., h, w, C); H and W are multiples of h and w.
      guide: (..., H, W).
      epsilon: variance of the guide below which a window is flat: there the map is smoothed.

    Returns:
      (..., H, W, C).
    """
    height, width = maps.shape[-3:-1]
    rows, columns = guide.shape[-2] // height, guide.shape[-1] // width
    blocks = guide.reshape(*guide.shape[:-2], height, rows, width, columns)
    low = jnp.mean(blocks, axis=(-3, -1))
    spread = jnp.mean(jnp.square(blocks), axis=(-3, -1))

    def window_mean(x: jax.Array) -> jax.Array:
        axes = (-3, -2) if x.ndim == maps.ndim else (-2, -1)
        return smooth(smooth(x, 1, axes), 1, axes)

    mean = window_mean(low)
    variance = window_mean(spread) - jnp.square(mean)
    covariance = window_mean(maps * low[..., None]) - window_mean(maps) * mean[..., None]
    slope = covariance / (variance[..., None] + epsilon)
    offset = window_mean(maps) - slope * mean[..., None]
    size = guide.shape[-2], guide.shape[-1]
    return enlarge(slope, size) * guide[..., None] + enlarge(offset, size)
