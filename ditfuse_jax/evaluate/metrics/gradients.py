"""3 x 3 gradient filters: exact in float32 on images of integers.

Images are `(..., H, W)` and keep their size; `mode` and `size` are those of `borders.extended`.
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.borders import extended
from ditfuse_jax.evaluate.metrics.sums import Size


def sobel(
    images: jax.Array, mode: str = "constant", size: Size = None
) -> tuple[jax.Array, jax.Array]:
    """Returns the responses to [-1 0 1; -2 0 2; -1 0 1] (to the right) and its transpose (down)."""
    return _gradient(images, 2.0, mode, size)


def prewitt(
    images: jax.Array, mode: str = "constant", size: Size = None
) -> tuple[jax.Array, jax.Array]:
    """Returns the responses to [-1 0 1; -1 0 1; -1 0 1] (to the right) and its transpose (down)."""
    return _gradient(images, 1.0, mode, size)


def magnitude(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns sqrt(x^2 + y^2); of integers up to 2,000, a function of the exact sum alone."""
    return jnp.sqrt(x * x + y * y)


def central_difference(images: jax.Array, axis: int, size: Size = None) -> jax.Array:
    """Returns half the difference of both neighbours along axis -2 or -1, one-sided at borders."""
    differences = jnp.asarray(jnp.gradient(images, axis=axis))
    if size is None:
        return differences
    place = jnp.arange(images.shape[axis]).reshape((-1, 1) if axis == -2 else (-1,))
    last = images - jnp.roll(images, 1, axis)
    return jnp.where(place == size[axis] - 1, last, differences)


def _gradient(
    images: jax.Array, middle: float, mode: str, size: Size
) -> tuple[jax.Array, jax.Array]:
    padded = extended(images, 1, mode, size)
    height, width = images.shape[-2:]

    def at(row: int, column: int) -> jax.Array:
        return padded[..., row : row + height, column : column + width]

    right = (at(0, 2) + middle * at(1, 2) + at(2, 2)) - (at(0, 0) + middle * at(1, 0) + at(2, 0))
    down = (at(2, 0) + middle * at(2, 1) + at(2, 2)) - (at(0, 0) + middle * at(0, 1) + at(0, 2))
    return right, down
