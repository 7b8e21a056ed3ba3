"""The velocities of the guidance branches: one forward pass over the rows of all of them."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ditfuse_jax.flow import to_velocity
from ditfuse_jax.model import Condition, EncodedCondition

if TYPE_CHECKING:
    from ditfuse_jax.model import DiTFuse


def encode(model: "DiTFuse", condition: Condition, num_branches: int) -> EncodedCondition:
    """Returns the keys and values of the condition.

    Args:
      model: the network.
      condition: R * B rows, those of a branch next to each other.
      num_branches: R.
    """
    return model.encode(condition, _longest_per_branch(model, condition, num_branches))


def target_bias(model: "DiTFuse", condition: Condition) -> jax.Array:
    """Returns the part of `encode` that is tied to places, (R * B, P, D)."""
    return model.target_bias(condition)


def branch_velocities(
    model: "DiTFuse",
    encoded: EncodedCondition,
    condition: Condition,
    x: jax.Array,
    t: jax.Array,
) -> jax.Array:
    """Returns dx/dt of every branch (R, B, H, W, C) at x (B, H, W, C) and a scalar time below 1.

    Args:
      model: the network.
      encoded: the keys and values of `condition`; see `encode`.
      condition: R * B rows.
      x: the current state, the same for all branches.
      t: the time.
    """
    num_branches = condition.tokens.shape[0] // x.shape[0]
    noisy = jnp.tile(x, (num_branches, 1, 1, 1))
    t = jnp.broadcast_to(t, noisy.shape[:1])
    output = model.denoise(encoded, condition, noisy, t)
    # Almost no lower bound: the last Euler step ends on the prediction, however short the step is.
    velocities = to_velocity(model.config.prediction, output, noisy, t, t_eps=1e-6)
    return velocities.reshape(num_branches, *x.shape)


def _longest_per_branch(model: "DiTFuse", condition: Condition, num_branches: int) -> jax.Array:
    """(R * B,) the largest position in a row's branch.

    LongRoPE chooses its factors by the longest sequence of a forward pass; each branch counts as a
    forward pass.
    """
    layout = model.layout(condition)
    valid = layout.condition_valid(condition.token_valid, condition.image_valid)
    _, positions = layout.positions(valid)
    longest = jnp.max(positions.reshape(num_branches, -1), axis=1)
    return jnp.repeat(longest, positions.shape[0] // num_branches)
