"""Joint counts of grey levels."""

import math

import jax
import jax.numpy as jnp

LEVELS = 256


def joint_histogram(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns how often each pair of levels occurs, exactly (up to 2^24 times) but as float32.

    Args:
      a, b: `(..., H, W)` holding integers 0..255; leading axes broadcast.

    Returns:
      `(..., 256, 256)`: rows a, columns b.
    """
    pairs = a.astype(jnp.int32) * LEVELS + b.astype(jnp.int32)
    *leading, height, width = pairs.shape
    count = math.prod(leading)
    pairs = pairs.reshape(count, height * width) + LEVELS**2 * jnp.arange(count)[:, None]
    counts = jnp.bincount(pairs.ravel(), length=count * LEVELS**2)
    return counts.reshape(*leading, LEVELS, LEVELS).astype(jnp.float32)
