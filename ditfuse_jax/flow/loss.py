"""The training loss: mean squared error of the velocity along the straight path."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow.path import T_EPS, interpolate, to_velocity, velocity
from ditfuse_jax.registry import Registry

PredictFn = Callable[[jax.Array, jax.Array], jax.Array]
# Times (...,) to the factors (...,) by which the velocity's error is multiplied.
Weighting = Callable[[jax.Array], jax.Array]

WEIGHTINGS: Registry[Weighting] = Registry("loss weighting")


@WEIGHTINGS.register("velocity")
def velocity_weighting(t: jax.Array) -> jax.Array:
    """The error of the velocity itself, at every time alike: the loss of flow matching."""
    return jnp.ones_like(t)


@WEIGHTINGS.register("image")
def image_weighting(t: jax.Array) -> jax.Array:
    """The error of the clean image that the velocity leads to: 1 - t times the velocity's."""
    return 1 - t


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The settings of the loss.

    Attributes:
      weighting: how times are weighted, a name in `WEIGHTINGS`.
      gradient_loss_weight: weight of the squared error of the differences between neighbouring
        pixels; the pixels themselves have weight 1.

    Raises:
      UserError: the weighting is unknown or the weight negative.
    """

    weighting: str = "velocity"
    gradient_loss_weight: float = 0.0

    def __post_init__(self) -> None:
        try:
            WEIGHTINGS.find(self.weighting)
        except UserError as error:
            raise UserError(f"flow.weighting: {error}") from error
        if self.gradient_loss_weight < 0:
            raise UserError(
                f"flow.gradient_loss_weight must be at least 0, not {self.gradient_loss_weight}"
            )


def flow_matching_loss(
    predict: PredictFn,
    prediction: str,
    image: jax.Array,
    noise: jax.Array,
    t: jax.Array,
    config: LossConfig | None = None,
) -> jax.Array:
    """Returns the loss of each draw (Lipman et al. 2023; docs/method.md, Objective).

    Args:
      predict: maps x_t (B, K, H, W, C) and t (B, K) to the model's output, same shape as x_t.
      prediction: what that output is; see `to_velocity`.
      image: clean targets (B, H, W, C).
      noise: (B, K, H, W, C) standard normal.
      t: (B, K).
      config: weighting and gradient loss; by default the plain flow-matching loss.

    Returns:
      (B, K) float32.
    """
    image = image[:, None]
    noisy = interpolate(image, noise, t)
    return velocity_loss(predict, prediction, noisy, t, velocity(image, noise), config)


def velocity_loss(
    predict: PredictFn,
    prediction: str,
    noisy: jax.Array,
    t: jax.Array,
    target: jax.Array,
    config: LossConfig | None = None,
    t_eps: float = T_EPS,
) -> jax.Array:
    """Returns the loss (B, K) at points (B, K, H, W, C) and times (B, K), whatever the target is.

    See `flow_matching_loss`.  `target`: velocities (B, K, H, W, C); `t_eps`: see `to_velocity`.
    """
    config = config or LossConfig()
    error = to_velocity(prediction, predict(noisy, t), noisy, t, t_eps) - target
    error *= WEIGHTINGS[config.weighting](t)[..., None, None, None]
    loss = _mean_square(error)
    if config.gradient_loss_weight:
        across, down = jnp.diff(error, axis=-2), jnp.diff(error, axis=-3)
        loss += config.gradient_loss_weight * (_mean_square(across) + _mean_square(down))
    return loss


def _mean_square(x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(x), axis=(-3, -2, -1))
