"""The velocities of the guidance branches: one forward pass over the rows of all of them."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ditfuse_jax.flow.guidance import GuidanceRule
from ditfuse_jax.flow.path import to_velocity
from ditfuse_jax.flow.solvers import Velocity
from ditfuse_jax.model import Condition, EncodedCondition

if TYPE_CHECKING:
    from ditfuse_jax.model import DiTFuse

# Almost no lower bound: the last Euler step ends on the prediction, however short the step is.
SAMPLING_T_EPS = 1e-6


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


def target_bias_by_rows(model: "DiTFuse", condition: Condition) -> jax.Array:
    """`target_bias` of whole images with all their sources, in another order."""
    return model.target_bias_by_rows(condition)


def encode_keys(
    model: "DiTFuse", condition: Condition, target_bias: jax.Array, num_branches: int
) -> EncodedCondition:
    """`encode` with a `target_bias` that is known."""
    return encode(model, condition, num_branches)._replace(target_bias=target_bias)


def branch_velocities(
    model: "DiTFuse",
    encoded: EncodedCondition,
    condition: Condition,
    x: jax.Array,
    t: jax.Array,
    t_eps: float = SAMPLING_T_EPS,
) -> jax.Array:
    """Returns dx/dt of every branch (R, B, H, W, C) at x (B, H, W, C) and times below 1.

    Args:
      model: the network.
      encoded: the keys and values of `condition`; see `encode`.
      condition: R * B rows.
      x: the current state, the same for all branches.
      t: the time, one for all rows or (B,).
      t_eps: see `to_velocity`.
    """
    num_branches = condition.tokens.shape[0] // x.shape[0]
    noisy = jnp.tile(x, (num_branches, 1, 1, 1))
    t = jnp.tile(jnp.broadcast_to(t, x.shape[:1]), num_branches)
    output = model.denoise(encoded, condition, noisy, t)
    velocities = to_velocity(model.config.prediction, output, noisy, t, t_eps=t_eps)
    return velocities.reshape(num_branches, *x.shape)


def decide(
    model: "DiTFuse", encoded: EncodedCondition, condition: Condition, x: jax.Array, t: jax.Array
) -> jax.Array:
    """Returns the values of the cells (B, h, w, C) at x (B, H, W, C) and a time, of one branch.

    See `DiTFuse.decide`.
    """
    return model.decide(encoded, condition, x, jnp.broadcast_to(t, x.shape[:1]))


def guided_velocity(
    model: "DiTFuse",
    branches: Condition,
    weights: jax.Array,
    rule: GuidanceRule,
    t_eps: float = SAMPLING_T_EPS,
) -> Velocity:
    """Returns the guided velocity as a function of x (B, H, W, C) and times, one or (B,).

    The conditions are encoded here, once.

    Args:
      model: the network.
      branches: conditions of the R guidance branches, every leaf (R, B, ...).
      weights: (R,) one per branch; see `Guidance.weights`.
      rule: how the branches are combined, without momentum.
      t_eps: see `to_velocity`.
    """
    condition = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), branches)
    encoded = encode(model, condition, branches.tokens.shape[0])

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        velocities = branch_velocities(model, encoded, condition, x, t, t_eps)
        return rule(velocities, weights, x, jnp.reshape(t, (-1, 1, 1, 1)))[0]

    return velocity


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
