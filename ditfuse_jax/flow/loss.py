"""The training objective: mean squared error of the velocity along the straight path."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ditfuse_jax.flow.path import interpolate, to_velocity, velocity

Predict = Callable[[jax.Array, jax.Array], jax.Array]


def flow_matching_loss(
    predict: Predict, prediction: str, image: jax.Array, noise: jax.Array, t: jax.Array
) -> jax.Array:
    """Loss of each draw (Lipman et al. 2023; DESIGN section 2, Objective).

    Args:
      predict: maps x_t (B, K, H, W, C) and t (B, K) to the model's output, same shape as x_t.
      prediction: what that output means; see `to_velocity`.
      image: clean targets (B, H, W, C).
      noise: (B, K, H, W, C) standard normal.
      t: (B, K).

    Returns:
      (B, K) float32.
    """
    image = image[:, None]
    noisy = interpolate(image, noise, t)
    predicted = to_velocity(prediction, predict(noisy, t), noisy, t)
    error = jnp.square(predicted - velocity(image, noise))
    return jnp.mean(error, axis=(-3, -2, -1))
