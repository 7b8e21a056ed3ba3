"""Attention by JAX's Pallas kernel for TPUs ("splash": sparse flash attention).

The kernel takes the static mask and skips blocks that are masked out entirely; padding, which is
data, is passed as segment ids.  On other hardware the kernel runs interpreted, slowly.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.model.attention.mask import AttentionMask
from ditfuse_jax.model.logical_axes import activation_sharding
from ditfuse_jax.model.remat import ATTENTION

# Side of a block of scores: a multiple of the lanes, large enough to keep the matrix unit busy.
_LANES = 128
_BLOCK = 512


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`.

    The compiler cannot partition the kernel, so on a mesh the caller runs it per device
    (`context_parallel_attention`).  The kernel has no scale argument, so bfloat16 queries are
    scaled before the product, which rounds them unless the head dimension is a power of 4.
    """
    place = activation_sharding(
        ("batch",), q.shape[:1]
    )  # programs may be compiled for devices elsewhere
    platform = jax.default_backend() if place is None else next(iter(place.device_set)).platform
    num_queries, heads, dim = q.shape[1:]
    q_block, k_block = _block(num_queries), _block(mask.num_keys)
    q = _padded(q * dim**-0.5, q_block)
    k, v, key_valid = (_padded(x, k_block) for x in (k, v, key_valid))
    # Tokens with equal ids attend to each other: all queries have 0, padded keys 1.
    key_ids = jnp.where(key_valid, 0, 1).astype(jnp.int32)
    query_ids = jnp.zeros(q.shape[:2], jnp.int32)
    from jax.experimental.pallas.ops.tpu import splash_attention as splash  # takes .1 s

    kernel = _kernel(mask, heads, platform != "tpu")
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    out = jax.vmap(kernel)(q, k, v, splash.SegmentIds(query_ids, key_ids))
    return out.swapaxes(1, 2)[:, :num_queries]


@functools.lru_cache(maxsize=32)
def _kernel(mask: AttentionMask, heads: int, interpret: bool) -> Callable:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    q_block, k_block = _block(mask.num_queries), _block(mask.num_keys)
    dense = np.pad(mask.dense(), [(0, -mask.num_queries % q_block), (0, -mask.num_keys % k_block)])
    # Rows without any block would divide by zero: padded queries attend to the first key.
    dense[mask.num_queries :, 0] = True
    heads_mask = splash.MultiHeadMask([splash.NumpyMask(dense)] * heads)
    blocks = splash.BlockSizes(
        block_q=q_block,
        block_kv=k_block,
        block_q_dkv=q_block,
        block_kv_dkv=k_block,
        block_q_dq=q_block,
        block_kv_dq=k_block,
    )
    with jax.ensure_compile_time_eval():
        kernel = splash.make_splash_mha_single_device(
            heads_mask,
            block_sizes=blocks,
            residual_checkpoint_name=ATTENTION,
            interpret=interpret,
        )
    # As NumPy arrays, because the cached kernel outlives its trace and its devices.
    return jax.tree.map(np.asarray, kernel)


def _block(length: int) -> int:
    return min(_BLOCK, -(-length // _LANES) * _LANES)


def _padded(x: jax.Array, block: int) -> jax.Array:
    """Pads axis 1 with zeros (False) to a multiple of `block` tokens."""
    missing = -x.shape[1] % block
    return jnp.pad(x, [(0, missing if axis == 1 else 0) for axis in range(x.ndim)])
