"""Attention by cuDNN's fused kernel, for NVIDIA GPUs and bfloat16.

cuDNN supports a dense bias or none, not the structure of our masks.  There are two formulations:

* `attend`: one call; mask and padding are one bias (B, 1, Q, K).
* `attend_split`: one call per part of the mask.  Padding is encoded in an additional channel of the
  heads: queries have 1 there, padded keys a number so low that their weight is zero.  A part whose
  queries attend to all its keys needs no bias; a causal part needs one for its few rows.

No query belongs to two parts, so results need not be merged by log-sum-exp, for which JAX's binding
of cuDNN has no gradient.  Without cuDNN, and in float32, which it does not support, the same calls
use JAX's XLA implementation.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax import compat
from ditfuse_jax.model.attention.mask import AttentionMask, Part
from ditfuse_jax.model.remat import checkpoint_attention

# A padded key's score before scaling: its weight exp(-30000 / sqrt(d)) is zero for d up to 512.
_HIDDEN = -30000.0
# cuDNN requires head dimensions that are multiples of 8; JAX's binding of its gradients requires
# even lengths.
CHANNELS = 8


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`; makes one call."""
    num_queries, dim = q.shape[1], q.shape[-1]
    allowed = jnp.asarray(mask.dense()) & key_valid[:, None]
    q, allowed = _even(q, 1), _even(_even(allowed, 1), 2)
    k, v = (_even(x, 1) for x in (k, v))
    return checkpoint_attention(_call(q, k, v, dim, allowed[:, None])[:, :num_queries])


def attend_split(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`; makes one call per part of the mask."""
    dim = q.shape[-1]
    # An additional padded key makes odd parts even.
    k, v, key_valid = (_append_zeros(x, 1) for x in (k, v, key_valid))
    hidden = jnp.where(key_valid, 0.0, _HIDDEN).astype(k.dtype)
    hidden = jnp.broadcast_to(hidden[:, :, None, None], (*k.shape[:3], 1))
    q = _pad_channels(jnp.concatenate([q, jnp.ones((*q.shape[:3], 1), q.dtype)], axis=-1))
    k = _pad_channels(jnp.concatenate([k, hidden], axis=-1))
    v = _pad_channels(jnp.pad(v, ((0, 0), (0, 0), (0, 0), (0, 1))))
    outputs = [_attend_part(q, k, v, part, dim) for part in mask.parts]
    return checkpoint_attention(jnp.concatenate(outputs, axis=1)[..., :dim])


def _attend_part(q: jax.Array, k: jax.Array, v: jax.Array, part: Part, dim: int) -> jax.Array:
    q = _even(q[:, part.start : part.stop], 1)
    spans = part.keys
    if part.num_keys % 2:
        spans = (*spans, (k.shape[1] - 1, k.shape[1]))
    k, v = (jnp.concatenate([x[:, a:b] for a, b in spans], axis=1) for x in (k, v))
    allowed = part.allowed()
    if allowed is not None:
        allowed = np.pad(allowed, [(0, size % 2) for size in allowed.shape])[None, None]
    return _call(q, k, v, dim, allowed)[:, : part.num_queries]


def _call(
    q: jax.Array, k: jax.Array, v: jax.Array, dim: int, allowed: jax.Array | np.ndarray | None
) -> jax.Array:
    fused = available() and q.dtype == jnp.bfloat16
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        mask=None if allowed is None else jnp.asarray(allowed),
        scale=dim**-0.5,
        implementation="cudnn" if fused else "xla",
    )


def available() -> bool:
    """Returns whether this process can trace cuDNN's calls (JAX's CUDA plugin is installed)."""
    return compat.cuda_plugin_is_installed()


def largest_head_dim(compute_capability: float) -> int:
    """Returns the largest head dimension of cuDNN's attention on a GPU, with gradients."""
    return 256 if compute_capability >= 9.0 else 128


def split_head_dim(head_dim: int) -> int:
    """Returns the head dimension of the calls of `attend_split`."""
    return -(-(head_dim + 1) // CHANNELS) * CHANNELS


def _even(x: jax.Array, axis: int) -> jax.Array:
    return _append_zeros(x, axis, x.shape[axis] % 2)


def _append_zeros(x: jax.Array, axis: int, by: int = 1) -> jax.Array:
    """Appends zeros (False) to one axis."""
    return jnp.pad(x, [(0, by if i == axis else 0) for i in range(x.ndim)])


def _pad_channels(x: jax.Array) -> jax.Array:
    missing = -x.shape[-1] % CHANNELS
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
