"""Joint histograms of grey levels."""

import math

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.sums import Size, inside

LEVELS = 256


def joint_histogram(a: jax.Array, b: jax.Array, size: Size = None) -> jax.Array:
    """Returns the counts of each pair of levels as float32, exact up to 2^24.

    Args:
      a, b: `(..., H, W)` holding integers 0..255; leading axes broadcast.
      size: rows and columns that are counted; by default all.

    Returns:
      `(..., 256, 256)`: rows a, columns b.
    """
    pairs = a.astype(jnp.int32) * LEVELS + b.astype(jnp.int32)
    *leading, height, width = pairs.shape
    count = math.prod(leading)
    if size is not None:
        pairs = jnp.where(inside(pairs, size), pairs, count * LEVELS**2)  # in no bin
    pairs = pairs.reshape(count, height * width) + LEVELS**2 * jnp.arange(count)[:, None]
    counts = jnp.bincount(pairs.ravel(), length=count * LEVELS**2)
    return counts.reshape(*leading, LEVELS, LEVELS).astype(jnp.float32)
