"""Running a compiled program on arrays that are made up."""

from typing import Any

import jax
import jax.numpy as jnp


def arguments(compiled: jax.stages.Compiled, skip: int = 0) -> tuple[Any, ...]:
    """Returns random arguments of a program: small normal numbers, zeros, and True.

    Numbers are not all zero, because a GPU multiplies zeros with less power and so faster.

    Args:
      compiled: the program.
      skip: number of its first arguments that are not made; None stands for each.
    """
    positional, _ = compiled.in_avals
    leaves, structure = jax.tree.flatten(positional[skip:])
    keys = jax.random.split(jax.random.key(0), len(leaves))
    made = [_fill(leaf, key) for leaf, key in zip(leaves, keys, strict=True)]
    return (*(None,) * skip, *structure.unflatten(made))


def _fill(leaf: Any, key: jax.Array) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        normal = jax.jit(lambda key: (0.02 * jax.random.normal(key, leaf.shape)).astype(leaf.dtype))
        return normal(key)
    return jnp.full(leaf.shape, leaf.dtype == jnp.bool_, leaf.dtype)
