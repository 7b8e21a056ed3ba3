"""Means over the last two axes that keep float32's precision for large images."""

import dataclasses
import math

import jax
import jax.numpy as jnp

_ROW = 4096

# Height and width of the part at the top left that is used; None for all.
Size = tuple[jax.Array, jax.Array] | None


def mean(values: jax.Array, size: Size = None) -> jax.Array:
    """Returns the mean of maps `(..., H, W)`, of the first `size` rows and columns.

    Row by row: adding a million numbers one after another would lose three digits of float32.
    """
    if size is None:
        return jnp.mean(jnp.mean(values, axis=-1), axis=-1)
    rows = jnp.sum(jnp.where(inside(values, size), values, 0), axis=-1) / size[1]
    return jnp.sum(rows, axis=-1) / size[0]


def inside(maps: jax.Array, size: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns which pixels of maps `(..., H, W)` are in the first `size` rows and columns."""
    height, width = maps.shape[-2:]
    return (jnp.arange(height)[:, None] < size[0]) & (jnp.arange(width) < size[1])


def count(maps: jax.Array, size: Size) -> jax.Array | int:
    """Returns how many pixels of each map are used."""
    return math.prod(maps.shape[-2:]) if size is None else size[0] * size[1]


def integer_mean(integers: jax.Array, size: Size = None) -> jax.Array:
    """Returns the mean of int32 `(..., H, W)`, magnitudes to 2^19, as float32; rows sum exactly."""
    places = count(integers, size)
    if size is not None:
        integers = jnp.where(inside(integers, size), integers, 0)
    *leading, height, width = integers.shape
    if width > _ROW:
        flat = integers.reshape(*leading, height * width)
        borders = [(0, 0)] * len(leading) + [(0, -height * width % _ROW)]
        integers = jnp.pad(flat, borders).reshape(*leading, -1, _ROW)
    return jnp.sum(integers.sum(axis=-1).astype(jnp.float32), axis=-1) / places


@dataclasses.dataclass(frozen=True, eq=False)
class Centred:
    """Integers minus their rounded mean, which are integers too: nothing large cancels."""

    values: jax.Array  # int32 (..., H, W)
    offset: jax.Array  # their mean, (...)
    size: Size = None

    def __getitem__(self, index) -> "Centred":
        return Centred(self.values[index], self.offset[index], self.size)

    def __sub__(self, other: "Centred") -> "Centred":
        return Centred(self.values - other.values, self.offset - other.offset, self.size)


def centred(integers: jax.Array, size: Size = None) -> Centred:
    """Centres int32 `(..., H, W)`."""
    average = integer_mean(integers, size)
    middle = jnp.round(average)
    return Centred(integers - middle.astype(jnp.int32)[..., None, None], average - middle, size)


def covariance(x: Centred, y: Centred) -> jax.Array:
    """Returns mean((x - mean x)(y - mean y)); leading axes broadcast."""
    return integer_mean(x.values * y.values, x.size) - x.offset * y.offset
