"""Rotary position embedding with LongRoPE scaling (Su et al. 2021; Ding et al. 2024; Phi-3)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.model.config import ModelConfig


def rope_tables(
    config: ModelConfig, positions: jax.Array, longest: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Computes rotary cosines and sines.

    Args:
      config: frequencies, factors and limits.
      positions: (B, N) integer positions.
      longest: (B,) the largest position, without padding, in the forward pass that each row belongs
        to; if it is `original_max_position` or more, the long factors apply.

    Returns:
      Cosines and sines, (B, N, head_dim / 2) float32 each.
    """
    half = config.head_dim // 2
    inverse = 1.0 / config.rope_theta ** (np.arange(half, dtype=np.float64) * 2 / config.head_dim)
    scale = 1.0
    frequencies = jnp.asarray(inverse, jnp.float32)[None]
    if config.rope_short_factor:
        short, long = (
            jnp.asarray(inverse / np.asarray(factor), jnp.float32)
            for factor in (config.rope_short_factor, config.rope_long_factor)
        )
        beyond = longest + 1 > config.original_max_position
        frequencies = jnp.where(beyond[:, None], long, short)
        ratio = config.max_position / config.original_max_position
        if ratio > 1:
            scale = math.sqrt(1 + math.log(ratio) / math.log(config.original_max_position))
    angles = positions[:, :, None].astype(jnp.float32) * frequencies[:, None, :]
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


def apply_rope(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates the two halves of each head by the position's angles.

    Args:
      x: (B, N, H, d).
      cos: (B, N, d/2) from `rope_tables`.
      sin: (B, N, d/2).

    Returns:
      (B, N, H, d) in x's dtype; the rotation is computed in float32.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
