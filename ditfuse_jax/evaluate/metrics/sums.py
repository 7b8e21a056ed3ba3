"""Sums and means over the last two axes that keep float32's digits however large the image."""

import jax
import jax.numpy as jnp

_ROW = 4096
_SPLIT = 1 << 16


def total(integers: jax.Array) -> jax.Array:
    """Sums int32 `(..., H, W)`, magnitudes to 2^19, exactly; returns float32, rounded once.

    H x W may be up to 2^27.
    """
    *leading, height, width = integers.shape
    if width > _ROW:
        flat = integers.reshape(*leading, height * width)
        borders = [(0, 0)] * len(leading) + [(0, -height * width % _ROW)]
        integers = jnp.pad(flat, borders).reshape(*leading, -1, _ROW)
    rows = integers.sum(axis=-1)
    # In two halves, neither of which can overflow: the sum of an image's squares would.
    high, low = (rows // _SPLIT).sum(axis=-1), (rows % _SPLIT).sum(axis=-1)
    return high.astype(jnp.float32) * _SPLIT + low.astype(jnp.float32)


def mean(values: jax.Array) -> jax.Array:
    """Returns the mean of maps `(..., H, W)`.

    By rows: adding a million numbers one after the other would cost float32 three digits.
    """
    return jnp.mean(jnp.mean(values, axis=-1), axis=-1)


def exact_mean(integers: jax.Array) -> jax.Array:
    """Returns the mean of int32 `(..., H, W)`; see `total`."""
    return total(integers) / (integers.shape[-1] * integers.shape[-2])


def centred(integers: jax.Array) -> jax.Array:
    """Returns int32 `(..., H, W)` less its rounded mean: still integers, and nothing cancels."""
    return integers - jnp.round(exact_mean(integers)).astype(jnp.int32)[..., None, None]


def covariance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns mean((x - mean x)(y - mean y)) of two `centred` images; leading axes broadcast."""
    return exact_mean(x * y) - exact_mean(x) * exact_mean(y)
