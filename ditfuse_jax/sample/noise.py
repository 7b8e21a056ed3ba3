"""The noise from which sampling starts, without a program for each size of image.

JAX's random numbers depend on the key and on the place in the flattened array only, so the noise of
an image is the beginning of a longer array.  Arrays of few lengths are drawn.
"""

import functools
import math
from typing import Any

import jax
import numpy as np

from ditfuse_jax.xla.kept_programs import KeptProgram

_SHORTEST = 2**20  # values; 590x590 pixels of three channels
_LENGTHS_PER_OCTAVE = 4


def standard_normal(seed: int, shape: tuple[int, ...], stream: int | None = None) -> np.ndarray:
    """Returns what `jax.random.normal(key, shape)` returns, as a read-only NumPy array.

    Args:
      seed: the key is `jax.random.key(seed)`, from 0 to 2^32 - 1.
      shape: of the result.
      stream: folded into the key, for noise that is independent of the other streams.
    """
    count = math.prod(shape)
    implementation = str(jax.config.values["jax_default_prng_impl"])
    if not getattr(
        jax.config, "jax_threefry_partitionable", True
    ):  # then every value depends on the length
        return np.asarray(jax.random.normal(_key(seed, stream, implementation), shape))
    length = padded_length(count)
    draw = _kept if length == _SHORTEST else _drawn
    return draw(seed, stream, implementation, length)[:count].reshape(shape)


def padded_length(count: int) -> int:
    """Returns the length of the array that is drawn for `count` values: at most a quarter more."""
    if count <= _SHORTEST:
        return _SHORTEST
    step = 2 ** (count - 1).bit_length() // (2 * _LENGTHS_PER_OCTAVE)
    return -(-count // step) * step


def _key(seed: Any, stream: int | None, implementation: str) -> jax.Array:
    key = jax.random.key(seed, impl=implementation)
    return key if stream is None else jax.random.fold_in(key, stream)


def _drawn(seed: int, stream: int | None, implementation: str, length: int) -> np.ndarray:
    return np.asarray(_normal(stream, implementation, length)(np.uint32(seed)))


@functools.lru_cache(maxsize=8)
def _normal(stream: int | None, implementation: str, length: int) -> KeptProgram:
    def draw(seed: jax.Array) -> jax.Array:
        return jax.random.normal(_key(seed, stream, implementation), (length,))

    return KeptProgram(draw, "normal", stream, implementation, length)


_kept = functools.lru_cache(maxsize=2)(_drawn)
