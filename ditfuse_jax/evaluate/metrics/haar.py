"""Q_M: preservation of the detail bands of a Haar wavelet."""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.comparison import Comparison
from ditfuse_jax.evaluate.metrics.sums import mean

_EXPONENTS = (2 / 3, 1 / 3)
SMALLEST = 2 ** len(_EXPONENTS)


def multiscale_edges_kept(images: Comparison) -> jax.Array:
    """Q_M = product over 2 levels of ([sum over X of E_X W_X] / [sum over X of W_X])^(2/3, 1/3).

    E = sum over the three detail bands of exp(-|x_X - x_F|), W = sum of their squares x_X^2, sums
    over all pixels; an odd last row or column is dropped.  0 to 3; higher is better; undefined
    where the sources have no detail at a level.  Wang and Liu 2008.
    """
    value, low, size = jnp.float32(1), images.stack, images.size
    for exponent in _EXPONENTS:
        low, bands = _haar(low)
        size = size and (size[0] // 2, size[1] // 2)
        kept, weight = jnp.float32(0), jnp.float32(0)
        for band in bands:
            of_source, of_fused = images.split(band)
            kept += jnp.exp(-jnp.abs(of_source - of_fused))
            weight += of_source**2
        ratio = jnp.sum(mean(kept * weight, size), axis=0)
        ratio /= jnp.sum(mean(weight, size), axis=0)
        value *= ratio**exponent
    return value


def _haar(images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The low band and the three detail bands of `(N, H, W)`, orthonormal."""
    height, width = (side - side % 2 for side in images.shape[1:])
    top, bottom = images[:, :height:2, :width], images[:, 1:height:2, :width]
    a, b, c, d = top[..., ::2], top[..., 1::2], bottom[..., ::2], bottom[..., 1::2]
    return (a + b + c + d) / 2, ((a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2)
