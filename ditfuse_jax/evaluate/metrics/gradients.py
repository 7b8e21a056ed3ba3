"""3 x 3 gradient filters: exact in float32 on images of integers.

Images are `(..., H, W)` and keep their size; `mode` is that of `jnp.pad` for the borders:
"constant" with zeros, "edge", or "reflect" (the border pixel is not repeated).
"""

import jax
import jax.numpy as jnp


def sobel(images: jax.Array, mode: str = "constant") -> tuple[jax.Array, jax.Array]:
    """Returns the responses to [-1 0 1; -2 0 2; -1 0 1] (to the right) and its transpose (down)."""
    return _gradient(images, 2.0, mode)


def prewitt(images: jax.Array, mode: str = "constant") -> tuple[jax.Array, jax.Array]:
    """Returns the responses to [-1 0 1; -1 0 1; -1 0 1] (to the right) and its transpose (down)."""
    return _gradient(images, 1.0, mode)


def magnitude(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns sqrt(x^2 + y^2); of integers up to 2,000, a function of the exact sum alone."""
    return jnp.sqrt(x * x + y * y)


def _gradient(images: jax.Array, middle: float, mode: str) -> tuple[jax.Array, jax.Array]:
    borders = [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)]
    padded = jnp.pad(images, borders, mode=mode)
    height, width = images.shape[-2:]

    def at(row: int, column: int) -> jax.Array:
        return padded[..., row : row + height, column : column + width]

    right = (at(0, 2) + middle * at(1, 2) + at(2, 2)) - (at(0, 0) + middle * at(1, 0) + at(2, 0))
    down = (at(2, 0) + middle * at(2, 1) + at(2, 2)) - (at(0, 0) + middle * at(0, 1) + at(0, 2))
    return right, down
