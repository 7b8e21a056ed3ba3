"""Means over the last two axes that keep float32's digits however large the image."""

import dataclasses

import jax
import jax.numpy as jnp

_ROW = 4096


def mean(values: jax.Array) -> jax.Array:
    """Returns the mean of maps `(..., H, W)`.

    By rows: adding a million numbers one after the other would cost float32 three digits.
    """
    return jnp.mean(jnp.mean(values, axis=-1), axis=-1)


def integer_mean(integers: jax.Array) -> jax.Array:
    """Returns the mean of int32 `(..., H, W)`, magnitudes to 2^19, as float32; rows sum exactly."""
    *leading, height, width = integers.shape
    if width > _ROW:
        flat = integers.reshape(*leading, height * width)
        borders = [(0, 0)] * len(leading) + [(0, -height * width % _ROW)]
        integers = jnp.pad(flat, borders).reshape(*leading, -1, _ROW)
    return jnp.sum(integers.sum(axis=-1).astype(jnp.float32), axis=-1) / (height * width)


@dataclasses.dataclass(frozen=True, eq=False)
class Centred:
    """Integers less their rounded mean: integers still, so that nothing large cancels."""

    values: jax.Array  # int32 (..., H, W)
    offset: jax.Array  # their mean, (...)

    def __getitem__(self, index) -> "Centred":
        return Centred(self.values[index], self.offset[index])

    def __sub__(self, other: "Centred") -> "Centred":
        return Centred(self.values - other.values, self.offset - other.offset)


def centred(integers: jax.Array) -> Centred:
    """Centres int32 `(..., H, W)`."""
    average = integer_mean(integers)
    middle = jnp.round(average)
    return Centred(integers - middle.astype(jnp.int32)[..., None, None], average - middle)


def covariance(x: Centred, y: Centred) -> jax.Array:
    """Returns mean((x - mean x)(y - mean y)); leading axes broadcast."""
    return integer_mean(x.values * y.values) - x.offset * y.offset
