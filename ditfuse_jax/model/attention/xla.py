"""Attention in plain XLA operations, separately for each part of the mask.

Queries are multiplied only with the keys of their part, so masked-out pairs cost nothing.  There
are two formulations: `attend_batched` for all heads at once, which is fast on accelerators, and
`cpu.attend` head by head for one CPU, where the scores of all heads do not fit into the cache.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.model.attention import cpu
from ditfuse_jax.model.attention.mask import AttentionMask, Part
from ditfuse_jax.model.logical_axes import activation_sharding, spans_devices
from ditfuse_jax.model.remat import checkpoint_attention

# Far below any score but finite, so that a row without any valid key stays finite.
_HIDDEN = np.float32(-1e30)


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`."""
    batch, num_queries, heads, _ = q.shape
    large = batch * heads * num_queries * mask.num_keys > cpu.BLOCK_SCORES
    formulation = cpu.attend if large and _on_one_cpu(k) else attend_batched
    return formulation(q, k, v, mask, key_valid)


def _on_one_cpu(k: jax.Array) -> bool:
    """Returns whether the traced program is for a single CPU; a loop over heads is not sharded."""
    place = activation_sharding(("batch", None, "kv_heads", None), k.shape)
    if place is None:
        return jax.default_backend() == "cpu" and not spans_devices()
    return next(iter(place.device_set)).platform == "cpu" and not spans_devices()


def attend_batched(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """Computes all heads at once; see `ditfuse_jax.model.attention.attend`.

    Heads are moved to the front before the products: on CPUs XLA then calls its fast batched matrix
    product instead of a strided loop.
    """
    batch, num_queries, heads, dim = q.shape
    kv_heads = k.shape[2]
    # (B, Hkv, G, Q, d): the G query heads of one key head are rows of one product.
    q = q.reshape(batch, num_queries, kv_heads, heads // kv_heads, dim)
    q = q.transpose(0, 2, 3, 1, 4)
    k = k.transpose(0, 2, 1, 3)
    v = v.transpose(0, 2, 1, 3)
    outputs = [_attend_part(q, k, v, part, key_valid) for part in mask.parts]
    out = jnp.concatenate(outputs, axis=3)
    return checkpoint_attention(
        out.transpose(0, 3, 1, 2, 4).reshape(batch, num_queries, heads, dim)
    )


def _attend_part(
    q: jax.Array, k: jax.Array, v: jax.Array, part: Part, key_valid: jax.Array
) -> jax.Array:
    q = q[:, :, :, part.start : part.stop]
    batch, kv_heads, group, length, dim = q.shape
    k, v = (_spans(x, part, axis=2) for x in (k, v))
    bias = jnp.where(_spans(key_valid, part, axis=1), 0.0, _HIDDEN)[:, None, None, :]
    pattern = part.allowed()
    if pattern is not None:
        bias = bias + np.where(pattern, np.float32(0.0), _HIDDEN)
    rows = q.reshape(batch, kv_heads, group * length, dim)
    scores = jnp.einsum("bhqd,bhkd->bhqk", rows, k, preferred_element_type=jnp.float32)
    scores = scores * dim**-0.5  # in float32: a scaled bfloat16 query would be rounded again
    scores = scores.reshape(batch, kv_heads, group, length, -1) + bias[:, :, None]
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = jnp.einsum("bhqk,bhkd->bhqd", weights.reshape(batch, kv_heads, group * length, -1), v)
    return out.reshape(batch, kv_heads, group, length, dim)


def _spans(x: jax.Array, part: Part, axis: int) -> jax.Array:
    pieces = [jax.lax.slice_in_dim(x, start, stop, axis=axis) for start, stop in part.keys]
    return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces, axis=axis)
