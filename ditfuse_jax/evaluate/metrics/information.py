"""Information measures on grey-level histograms: entropy and mutual information, in bits.

Grey images are `(H, W)`, float32 holding integers 0..255, one bin per level.
"""

import jax
import jax.numpy as jnp

LEVELS = 256


def histogram(image: jax.Array) -> jax.Array:
    """Returns how often each level occurs, `(256,)` int32, exact."""
    return jnp.bincount(image.astype(jnp.int32).ravel(), length=LEVELS)


def joint_histogram(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns how often each pair of levels (a, b) occurs, `(256, 256)` int32, exact."""
    pairs = a.astype(jnp.int32) * LEVELS + b.astype(jnp.int32)
    return jnp.bincount(pairs.ravel(), length=LEVELS * LEVELS).reshape(LEVELS, LEVELS)


def entropy(image: jax.Array) -> jax.Array:
    """EN = -sum p log2 p over the 256 levels of the grey image `(H, W)`; bits per pixel."""
    counts = histogram(image).astype(jnp.float32)
    # Written with 1/p = size / count, which is exactly 1, so exactly 0 bits, for a flat image.
    bits = jnp.where(counts > 0, counts * jnp.log2(image.size / jnp.maximum(counts, 1.0)), 0.0)
    return jnp.sum(bits) / image.size


def mutual_information(fused: jax.Array, sources: jax.Array) -> jax.Array:
    """MI = sum over the sources of MI(X, F) = H(X) + H(F) - H(X, F); bits, **summed** not averaged.

    Qu, Zhang and Yan 2002.  Written as sum p(x,f) log2 [p(x,f) / (p(x) p(f))], which is the same
    number without subtracting entropies several times its size.

    Args:
      fused: grey `(H, W)`.
      sources: grey `(K, H, W)`.
    """
    return jnp.sum(jax.vmap(lambda source: _mutual_information(source, fused))(sources))


def _mutual_information(x: jax.Array, f: jax.Array) -> jax.Array:
    counts = joint_histogram(x, f).astype(jnp.float32)
    of_x, of_f = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True)
    # From products of counts, so that the ratio is exactly 1 where either image is flat.
    ratio = counts * x.size / jnp.maximum(of_x * of_f, 1.0)
    bits = jnp.where(counts > 0, counts * jnp.log2(jnp.where(counts > 0, ratio, 1.0)), 0.0)
    return jnp.sum(jnp.sum(bits, axis=1)) / x.size
