"""The guided velocity: one forward pass for the rows of all guidance branches."""

import jax
import jax.numpy as jnp

from ditfuse_jax.flow import combine, to_velocity
from ditfuse_jax.model import Condition, DiTFuse, EncodedCondition


def encode(model: DiTFuse, condition: Condition, num_branches: int) -> EncodedCondition:
    """The condition's keys and values.

    Args:
      model: the network.
      condition: R * B rows, those of a branch together.
      num_branches: R.
    """
    return model.encode(condition, _longest_per_branch(model, condition, num_branches))


def guided_velocity(
    model: DiTFuse,
    encoded: EncodedCondition,
    condition: Condition,
    x: jax.Array,
    t: jax.Array,
    weights: jax.Array,
) -> jax.Array:
    """dx/dt at x (B, H, W, C) and a scalar time.

    Args:
      model: the network.
      encoded: of `condition`; see `encode`.
      condition: R * B rows.
      x: where all branches are.
      t: the time.
      weights: (R,) share of each branch; see `Guidance.weights`.
    """
    num_branches = weights.shape[0]
    noisy = jnp.tile(x, (num_branches, 1, 1, 1))
    t = jnp.broadcast_to(t, noisy.shape[:1])
    output = model.denoise(encoded, condition, noisy, t)
    # No floor: the last Euler step then lands on the prediction, however many steps there are.
    guided = to_velocity(model.config.prediction, output, noisy, t, min_remaining=1e-6)
    return combine(guided.reshape(num_branches, *x.shape), weights)


def _longest_per_branch(model: DiTFuse, condition: Condition, num_branches: int) -> jax.Array:
    """(R * B,) each branch is a forward pass of its own for LongRoPE's choice of factors."""
    layout = model.layout(condition)
    valid = layout.condition_valid(condition.token_valid, condition.image_valid)
    _, positions = layout.positions(valid)
    longest = jnp.max(positions.reshape(num_branches, -1), axis=1)
    return jnp.repeat(longest, positions.shape[0] // num_branches)
