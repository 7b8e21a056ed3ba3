"""The noise from which sampling starts, without a program for each size of image.

JAX's random numbers depend on the key and on the place in the flattened array only, so the noise of
an image is the beginning of a longer array.  Arrays of few lengths are drawn.
"""

import functools
import math

import jax
import numpy as np

from ditfuse_jax.xla.kept_programs import KeptProgram

_SHORTEST = 2**20  # values; 590x590 pixels of three channels
_LENGTHS_PER_OCTAVE = 4


def standard_normal(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Returns what `jax.random.normal(key, shape)` returns, as a read-only NumPy array.

    Args:
      key: of `jax.random.key`, or folded from one.
      shape: of the result.
    """
    count = math.prod(shape)
    if not getattr(
        jax.config, "jax_threefry_partitionable", True
    ):  # then every value depends on the length
        return np.asarray(jax.random.normal(key, shape))
    length = padded_length(count)
    data = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
    draw = _kept if length == _SHORTEST else _drawn
    return draw(data, str(jax.random.key_impl(key)), length)[:count].reshape(shape)


def padded_length(count: int) -> int:
    """Returns the length of the array that is drawn for `count` values: at most a quarter more."""
    if count <= _SHORTEST:
        return _SHORTEST
    step = 2 ** (count - 1).bit_length() // (2 * _LENGTHS_PER_OCTAVE)
    return -(-count // step) * step


def _drawn(key_data: tuple[int, ...], implementation: str, length: int) -> np.ndarray:
    return np.asarray(_normal(implementation, length)(np.array(key_data, np.uint32)))


@functools.lru_cache(maxsize=8)
def _normal(implementation: str, length: int) -> KeptProgram:
    @jax.jit
    def draw(key_data: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(key_data, impl=implementation)
        return jax.random.normal(key, (length,))

    return KeptProgram(draw, "normal", implementation, length)


_kept = functools.lru_cache(maxsize=2)(_drawn)
