"""Working through an image in strips of rows, with the numbers of the whole.

Group norms take their statistics over the whole image, so tiles computed apart would differ from
the whole by far more than rounding.  Here only the rows are cut: a strip gets the rows around it
that its convolutions reach, and statistics are gathered over all strips first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.model.autoencoder.layers import GroupNorm

# Of a strip: the rows (B, rows + 2 * halo, W, C), and which of them are inside the image.
StripFunction = Callable[[jax.Array, jax.Array], Any]


def gather_strips(function: StripFunction, x: jax.Array, rows: int, halo: int) -> Any:
    """Applies a function to all strips, one after the other, and stacks its (small) results.

    Args:
      function: of a strip with `halo` rows of its neighbours above and below, and of a mask
        (rows + 2 * halo, 1, 1) that is False beyond the image; may return any pytree.
      x: (B, H, W, C).
      rows: per strip; divides H.
      halo: rows of neighbours.
    """
    starts = jnp.arange(0, x.shape[1], rows)
    return jax.lax.map(lambda start: function(*_strip(x, start, rows, halo)), starts)


def map_strips(function: StripFunction, x: jax.Array, rows: int, halo: int) -> jax.Array:
    """As `gather_strips`, for a function that returns rows of an image: (B, H', W', C') of all.

    The image is filled in place: nothing but it and one strip is held beside `x`.
    """
    count = x.shape[1] // rows
    strip = jax.eval_shape(lambda x: function(*_strip(x, 0, rows, halo)), x)
    batch, made, *rest = strip.shape
    # All of it is overwritten.  Made from `x`, or it would be held from the program's beginning on.
    out = jnp.broadcast_to(x[0, 0, 0, 0].astype(strip.dtype), (batch, count * made, *rest))

    def fill(number: jax.Array, out: jax.Array) -> jax.Array:
        done = function(*_strip(x, number * rows, rows, halo))
        return jax.lax.dynamic_update_slice_in_dim(out, done, number * made, axis=1)

    return jax.lax.fori_loop(0, count, fill, out)


def _strip(x: jax.Array, start: Any, rows: int, halo: int) -> tuple[jax.Array, jax.Array]:
    """A strip with its neighbours, zero beyond the image, and what of it is inside."""
    wanted = start + jnp.arange(-halo, rows + halo)
    inside = ((wanted >= 0) & (wanted < x.shape[1]))[:, None, None]
    strip = jnp.take(x, jnp.clip(wanted, 0, x.shape[1] - 1), axis=1)
    return jnp.where(inside, strip, 0), inside


def moments_of(norm: GroupNorm, x: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """A norm's moments of the whole, gathered in strips."""
    return join_moments(*gather_strips(lambda strip, inside: norm.moments(strip), x, rows, halo=0))


def join_moments(means: jax.Array, variances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments of the whole from those of equal strips, (S, B, G) each (Chan et al. 1983)."""
    mean = jnp.mean(means, axis=0)
    return mean, jnp.mean(variances + jnp.square(means - mean), axis=0)
