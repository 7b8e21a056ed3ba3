"""Attention by cuDNN's fused kernel, for NVIDIA GPUs and bfloat16.

cuDNN takes a dense bias or nothing: it knows neither the slots nor where padding sits.  Two
formulations, one for each end of that choice:

* `attend`: one call; mask and padding as one bias (B, 1, Q, K).
* `attend_split`: one call per part of the mask.  Padding hides in one more channel of the heads:
  the query has 1 there, a padded key a number so low that its weight is zero.  Where every query of
  a part sees every key no bias is needed at all; a causal part needs one of its own few rows.

No query belongs to two parts, so nothing has to be merged by log-sum-exp, whose gradient JAX's
binding of cuDNN does not have.  Where there is no cuDNN, or in float32, which it does not know, the
same calls run as JAX writes them out.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax import compat
from ditfuse_jax.model.attention.mask import AttentionMask, Part
from ditfuse_jax.model.remat import checkpoint_attention

# A padded key's score, before scaling: its weight exp(-30000 / sqrt(d)) is zero for any d to 512.
_HIDDEN = -30000.0
# cuDNN wants head dimensions in multiples of 8 and JAX's binding of its gradients even lengths.
_CHANNELS = 8


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`: one call."""
    num_queries, dim = q.shape[1], q.shape[-1]
    seen = jnp.asarray(mask.dense()) & key_valid[:, None]
    q, seen = _even(q, 1), _even(_even(seen, 1), 2)
    k, v = (_even(x, 1) for x in (k, v))
    return checkpoint_attention(_call(q, k, v, dim, seen[:, None])[:, :num_queries])


def attend_split(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`: one call per part of the mask."""
    dim = q.shape[-1]
    # One more key, padding, makes odd parts even.
    k, v, key_valid = (_lengthened(x, 1) for x in (k, v, key_valid))
    hidden = jnp.where(key_valid, 0.0, _HIDDEN).astype(k.dtype)
    hidden = jnp.broadcast_to(hidden[:, :, None, None], (*k.shape[:3], 1))
    q = _channels(jnp.concatenate([q, jnp.ones((*q.shape[:3], 1), q.dtype)], axis=-1))
    k = _channels(jnp.concatenate([k, hidden], axis=-1))
    v = _channels(jnp.pad(v, ((0, 0), (0, 0), (0, 0), (0, 1))))
    outputs = [_attend_part(q, k, v, part, dim) for part in mask.parts]
    return checkpoint_attention(jnp.concatenate(outputs, axis=1)[..., :dim])


def _attend_part(q: jax.Array, k: jax.Array, v: jax.Array, part: Part, dim: int) -> jax.Array:
    q = _even(q[:, part.start : part.stop], 1)
    spans = part.keys
    if part.num_keys % 2:
        spans = (*spans, (k.shape[1] - 1, k.shape[1]))
    k, v = (jnp.concatenate([x[:, a:b] for a, b in spans], axis=1) for x in (k, v))
    seen = part.allowed()
    if seen is not None:
        seen = np.pad(seen, [(0, size % 2) for size in seen.shape])[None, None]
    return _call(q, k, v, dim, seen)[:, : part.num_queries]


def _call(
    q: jax.Array, k: jax.Array, v: jax.Array, dim: int, seen: jax.Array | np.ndarray | None
) -> jax.Array:
    fused = available() and q.dtype == jnp.bfloat16
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        mask=None if seen is None else jnp.asarray(seen),
        scale=dim**-0.5,
        implementation="cudnn" if fused else "xla",
    )


def available() -> bool:
    """Whether this process can trace cuDNN's calls (JAX's CUDA plugin is there)."""
    return compat.cuda_plugin_is_installed()


def _even(x: jax.Array, axis: int) -> jax.Array:
    return _lengthened(x, axis, x.shape[axis] % 2)


def _lengthened(x: jax.Array, axis: int, by: int = 1) -> jax.Array:
    """Zeros (False) at the end of one axis."""
    return jnp.pad(x, [(0, by if i == axis else 0) for i in range(x.ndim)])


def _channels(x: jax.Array) -> jax.Array:
    missing = -x.shape[-1] % _CHANNELS
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
