"""Rectified flow: the straight path from noise (t = 0) to the image (t = 1).

x_t = t * x + (1 - t) * eps with velocity x - eps (Liu et al. 2023; DESIGN section 2, Objective).
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError

# A clean-image prediction divides by 1 - t; in training the quotient is held at this floor
# (Li and He 2025, "Back to Basics", appendix A).  A solver never divides at t = 1 and needs none.
MIN_REMAINING = 0.05


def interpolate(image: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """x_t for images and noise (..., H, W, C) at times (...,)."""
    t = _expand(t)
    return t * image + (1 - t) * noise


def velocity(image: jax.Array, noise: jax.Array) -> jax.Array:
    """The path's constant velocity, (..., H, W, C)."""
    return image - noise


def to_velocity(
    prediction: str,
    output: jax.Array,
    noisy: jax.Array,
    t: jax.Array,
    min_remaining: float = MIN_REMAINING,
) -> jax.Array:
    """Turns a model's output into a velocity; the only place where that is done.

    Args:
      prediction: what the output means, `velocity` or `clean`.
      output: (..., H, W, C).
      noisy: x_t, same shape.
      t: (...,) times.
      min_remaining: least value of 1 - t that is divided by.

    Raises:
      UserError: unknown prediction.
    """
    if prediction == "velocity":
        return output
    if prediction == "clean":
        return (output - noisy) / jnp.maximum(1 - _expand(t), min_remaining)
    raise UserError(f"prediction {prediction!r} is unknown; choose velocity or clean")


def _expand(t: jax.Array) -> jax.Array:
    return t[..., None, None, None]
