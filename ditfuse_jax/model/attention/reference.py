"""Attention exactly as the formula; every other implementation is tested against it."""

import jax
import jax.numpy as jnp

from ditfuse_jax.model.attention.mask import AttentionMask
from ditfuse_jax.model.remat import checkpoint_attention


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`."""
    group = q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, group, axis=2).astype(jnp.float32) for x in (k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q.astype(jnp.float32), k) * q.shape[-1] ** -0.5
    allowed = jnp.asarray(mask.dense())[None, None] & key_valid[:, None, None, :]
    # A query without any valid key (padding before the first real token) gets zeros, not NaN.
    scores = jnp.where(allowed, scores, -jnp.inf)
    peak = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - jnp.where(jnp.isfinite(peak), peak, 0.0))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights / jnp.where(total > 0, total, 1.0)
    return checkpoint_attention(jnp.einsum("bhqk,bkhd->bqhd", weights, v).astype(q.dtype))
