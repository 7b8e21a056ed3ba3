"""The random numbers of initial values."""

from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from flax import nnx


class InitialKeys:
    """The keys of `nnx.Rngs(params=key)`, counted in Python.

    `nnx.Rngs` counts in an array.  While a model is traced, each count adds operations, and flax
    compares shardings of traced arrays, for which JAX composes an error message from all operations
    so far: the time grows with the square of the number of parameters.
    """

    def __init__(self, key: jax.Array | int):
        self._key = jax.random.key(key) if isinstance(key, int) else key
        self._count = 0

    def params(self) -> jax.Array:
        """Returns the next key."""
        key = jax.random.fold_in(self._key, self._count)
        self._count += 1
        return key


# What a module takes as `rngs`; Flax is imported where it is needed only.
if TYPE_CHECKING:
    Rngs = nnx.Rngs | InitialKeys
else:
    Rngs = Any
