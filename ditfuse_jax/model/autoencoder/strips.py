"""Processing of an image in strips of rows, with the same result as for the whole image.

Group norms compute statistics over the whole image, so independent tiles would change the result.
Here each strip includes the neighbouring rows that its convolutions need, and statistics are
computed over all strips first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.model.autoencoder.layers import GroupNorm

# Takes a strip (B, rows + 2 * halo, W, C) and a mask of its rows that are inside the image.
StripFunction = Callable[[jax.Array, jax.Array], Any]


def gather_strips(function: StripFunction, x: jax.Array, rows: int, halo: int) -> Any:
    """Applies a function to all strips in sequence and stacks the (small) results.

    Args:
      function: takes a strip with `halo` neighbouring rows above and below, and a mask
        (rows + 2 * halo, 1, 1) that is False beyond the image; may return any pytree.
      x: (B, H, W, C).
      rows: rows per strip, a divisor of H.
      halo: number of neighbouring rows on each side.
    """
    starts = jnp.arange(0, x.shape[1], rows)
    return jax.lax.map(lambda start: function(*_strip(x, start, rows, halo)), starts)


def map_strips(function: StripFunction, x: jax.Array, rows: int, halo: int) -> jax.Array:
    """Applies a function that returns rows of an image; see `gather_strips`.

    Returns:
      (B, H', W', C').  It is filled in place, so only one strip is allocated besides.
    """
    count = x.shape[1] // rows
    strip = jax.eval_shape(lambda x: function(*_strip(x, 0, rows, halo)), x)
    batch, made, *rest = strip.shape
    # Overwritten entirely.  It is computed from `x`, so that XLA does not allocate it earlier.
    out = jnp.broadcast_to(x[0, 0, 0, 0].astype(strip.dtype), (batch, count * made, *rest))

    def fill(number: jax.Array, out: jax.Array) -> jax.Array:
        done = function(*_strip(x, number * rows, rows, halo))
        return jax.lax.dynamic_update_slice_in_dim(out, done, number * made, axis=1)

    return jax.lax.fori_loop(0, count, fill, out)


def _strip(x: jax.Array, start: Any, rows: int, halo: int) -> tuple[jax.Array, jax.Array]:
    """Returns a strip with its halo, zero beyond the image, and the mask of rows inside."""
    wanted = start + jnp.arange(-halo, rows + halo)
    inside = ((wanted >= 0) & (wanted < x.shape[1]))[:, None, None]
    strip = jnp.take(x, jnp.clip(wanted, 0, x.shape[1] - 1), axis=1)
    return jnp.where(inside, strip, 0), inside


def moments_of(norm: GroupNorm, x: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """Computes a norm's moments of the whole image in strips."""
    return join_moments(*gather_strips(lambda strip, inside: norm.moments(strip), x, rows, halo=0))


def join_moments(means: jax.Array, variances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Combines the moments (S, B, G) of S equal strips (Chan et al. 1983)."""
    mean = jnp.mean(means, axis=0)
    return mean, jnp.mean(variances + jnp.square(means - mean), axis=0)
