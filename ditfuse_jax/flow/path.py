"""Rectified flow: the straight path from noise (t = 0) to the image (t = 1).

x_t = t * x + (1 - t) * eps with velocity x - eps (Liu et al. 2023; docs/method.md, Objective).
"""

from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError

# A clean-image prediction is divided by 1 - t to get a velocity; in training by at least this
# (Li and He 2025, "Back to Basics", appendix A).
T_EPS = 0.05


def interpolate(image: Any, noise: Any, t: Any) -> Any:
    """Returns x_t for images and noise (..., H, W, C) at times (...,), JAX's or NumPy's arrays."""
    t = _expand(t)
    return t * image + (1 - t) * noise


def velocity(image: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns the path's velocity (..., H, W, C), which is the same at all times."""
    return image - noise


def to_velocity(
    prediction: str, output: jax.Array, noisy: jax.Array, t: jax.Array, t_eps: float = T_EPS
) -> jax.Array:
    """Converts a model's output to a velocity; no other place does.

    Args:
      prediction: what the output is, `velocity` or `clean` (the image).
      output: (..., H, W, C).
      noisy: x_t, same shape.
      t: (...,) times.
      t_eps: lower bound of the divisor 1 - t of a clean prediction.

    Raises:
      UserError: unknown prediction.
    """
    if prediction == "velocity":
        return output
    if prediction == "clean":
        return (output - noisy) / jnp.maximum(1 - _expand(t), t_eps)
    raise UserError(f"prediction {prediction!r} is unknown; choose velocity or clean")


def _expand(t: Any) -> Any:
    return t[..., None, None, None]
