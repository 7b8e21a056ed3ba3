"""Working through an image in strips of rows, with the numbers of the whole.

Group norms take their statistics over the whole image, so tiles computed apart would differ from
the whole by far more than rounding.  Here only the rows are cut: a strip gets the rows around it
that its convolutions reach, and statistics are gathered over all strips first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Of a strip: the rows (B, rows + 2 * halo, W, C), and which of them are inside the image.
StripFunction = Callable[[jax.Array, jax.Array], Any]


def map_strips(function: StripFunction, x: jax.Array, rows: int, halo: int) -> Any:
    """Applies a function to all strips, one after the other.

    Args:
      function: of a strip with `halo` rows of its neighbours above and below, and of a mask
        (rows + 2 * halo, 1, 1) that is False beyond the image; may return any pytree.
      x: (B, H, W, C).
      rows: per strip; divides H.
      halo: rows of neighbours.

    Returns:
      The results, stacked in front.
    """
    height = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (halo, halo), (0, 0), (0, 0)))
    offsets = jnp.arange(-halo, rows + halo)

    def one(start: jax.Array) -> Any:
        strip = jax.lax.dynamic_slice_in_dim(padded, start, rows + 2 * halo, axis=1)
        inside = (start + offsets >= 0) & (start + offsets < height)
        return function(strip, inside[:, None, None])

    return jax.lax.map(one, jnp.arange(0, height, rows))


def join_strips(strips: jax.Array) -> jax.Array:
    """(S, B, rows, W, C) -> (B, S * rows, W, C)."""
    joined = jnp.moveaxis(strips, 0, 1)
    batch, count, rows, *rest = joined.shape
    return joined.reshape(batch, count * rows, *rest)


def join_moments(means: jax.Array, variances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments of the whole from those of equal strips, (S, B, G) each (Chan et al. 1983)."""
    mean = jnp.mean(means, axis=0)
    return mean, jnp.mean(variances + jnp.square(means - mean), axis=0)
