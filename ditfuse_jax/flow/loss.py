"""The training objective: mean squared error of the velocity along the straight path."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow.path import interpolate, to_velocity, velocity

Predict = Callable[[jax.Array, jax.Array], jax.Array]

WEIGHTINGS = ("velocity", "image")


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the loss counts.

    Attributes:
      weighting: `velocity`, the method's, or `image`: the error of the clean image that a velocity
        leads to, (1 - t) times the velocity's.  Times near the image, where little is left to do,
        then count little.
      gradient_loss_weight: weight of the squared error of the differences between neighbouring
        pixels, beside that of the pixels themselves.
    """

    weighting: str = "velocity"
    gradient_loss_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise UserError(
                f"flow.weighting {self.weighting!r} is unknown; choose from {', '.join(WEIGHTINGS)}"
            )
        if self.gradient_loss_weight < 0:
            raise UserError(
                f"flow.gradient_loss_weight must be at least 0, not {self.gradient_loss_weight}"
            )


PLAIN = Objective()


def flow_matching_loss(
    predict: Predict,
    prediction: str,
    image: jax.Array,
    noise: jax.Array,
    t: jax.Array,
    objective: Objective = PLAIN,
) -> jax.Array:
    """Loss of each draw (Lipman et al. 2023; DESIGN section 2, Objective).

    Args:
      predict: maps x_t (B, K, H, W, C) and t (B, K) to the model's output, same shape as x_t.
      prediction: what that output means; see `to_velocity`.
      image: clean targets (B, H, W, C).
      noise: (B, K, H, W, C) standard normal.
      t: (B, K).
      objective: what counts; by default the method's plain loss.

    Returns:
      (B, K) float32.
    """
    image = image[:, None]
    noisy = interpolate(image, noise, t)
    predicted = to_velocity(prediction, predict(noisy, t), noisy, t)
    error = predicted - velocity(image, noise)
    if objective.weighting == "image":
        error *= (1 - t)[..., None, None, None]
    loss = _mean_square(error)
    if objective.gradient_loss_weight:
        across, down = jnp.diff(error, axis=-2), jnp.diff(error, axis=-3)
        loss += objective.gradient_loss_weight * (_mean_square(across) + _mean_square(down))
    return loss


def _mean_square(x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(x), axis=(-3, -2, -1))
