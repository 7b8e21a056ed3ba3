"""Attention for CPUs: head by head, in blocks whose scores stay in the cache.

The batched formulation writes the scores of all heads to memory, which takes longer than all of the
arithmetic.  Here a loop runs over examples and key heads.  Its body consists of 2-D products, for
which XLA calls its fast library, over the parts of the mask, so masked-out pairs cost nothing.  The
backward pass computes the probabilities again instead of saving them (FlashAttention, Dao et al.
2022, arXiv 2205.14135, section 3.1).
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.model.attention.mask import AttentionMask, Part
from ditfuse_jax.model.remat import checkpoint_attention

# Far below any score but finite, so that a row without any valid key stays finite.
_HIDDEN = np.float32(-1e30)
# Scores of one block: 8 MiB, about one core's share of the last-level cache.
BLOCK_SCORES = 2**21


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: AttentionMask, key_valid: jax.Array
) -> jax.Array:
    """See `ditfuse_jax.model.attention.attend`; all arithmetic is float32."""
    batch, length, heads, dim = q.shape
    q32 = q.astype(jnp.float32).reshape(batch, length, k.shape[2], -1, dim) * dim**-0.5
    k, v = k.astype(jnp.float32), v.astype(jnp.float32)
    bias = jnp.where(key_valid, 0.0, _HIDDEN)
    out: jax.Array = _attend_heads(mask, q32, k, v, bias)  # pyright: ignore
    return out.reshape(batch, length, heads, dim).astype(q.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend_heads(
    mask: AttentionMask, q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array
) -> jax.Array:
    """(B, Q, H, G, d), (B, K, H, d), (B, K, H, d), (B, K) -> (B, Q, H, G, d), H key heads."""
    return _forward(mask, q, k, v, bias)[0]


def _forward(mask: AttentionMask, q, k, v, bias) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def head(q, k, v, bias):
        q = q.swapaxes(0, 1)
        outputs = [_forward_part(part, q, k, v, bias) for part in mask.parts]
        out, peak, total = (jnp.concatenate(x, axis=1) for x in zip(*outputs, strict=True))
        return out.swapaxes(0, 1), peak.T, total.T

    # The logarithm is taken outside the loop: inside it the pass takes 1.5 times as long.
    out, peak, total = _over_heads(head, (q, k, v), bias, _heads_at_once(mask, q))
    out, lse = checkpoint_attention(out), checkpoint_attention(peak + jnp.log(total))
    return out, (q, k, v, bias, out, lse)


def _over_heads(
    function: Callable, arrays: Sequence[jax.Array], bias: jax.Array, at_once: int = 1
) -> tuple[jax.Array, ...]:
    """Applies a function to every example and key head, in a loop.

    Args:
      function: takes slices (N, ...) of `arrays` and (K,) of `bias`, returns a tuple of arrays
        (N', ...).
      arrays: (B, N, H, ...) each.
      bias: (B, K).
      at_once: heads per iteration of the loop, a divisor of H.

    Returns:
      (B, N', H, ...) for each result.
    """
    batch, _, heads = arrays[0].shape[:3]
    turns = heads // at_once

    def cut(x: jax.Array) -> jax.Array:
        """(B, N, H, ...) -> (B * turns, N, at_once, ...)."""
        x = x.reshape(*x.shape[:2], turns, at_once, *x.shape[3:])
        return jnp.moveaxis(x, 2, 1).reshape(batch * turns, -1, at_once, *x.shape[4:])

    def joined(x: jax.Array) -> jax.Array:
        """(B * turns, N, at_once, ...) -> (B, N, H, ...)."""
        x = jnp.moveaxis(x.reshape(batch, turns, *x.shape[1:]), 1, 2)
        return x.reshape(batch, -1, heads, *x.shape[4:])

    def turn(x):
        *slices, bias = x
        results = [function(*(s[:, h] for s in slices), bias) for h in range(at_once)]
        return tuple(jnp.stack(result, axis=1) for result in zip(*results, strict=True))

    results = jax.lax.map(turn, (*map(cut, arrays), jnp.repeat(bias, turns, axis=0)))
    return tuple(map(joined, results))


def _heads_at_once(mask: AttentionMask, q: jax.Array) -> int:
    """Returns the number of key heads per iteration of the forward pass's loop.

    The mask of a draw with its condition has one long part (and the time token's): with several
    heads per iteration, whose operations XLA may run in parallel, guided sampling takes 5 % less
    time.  With more parts it takes up to 40 % longer and twice the memory (docs/performance.md).
    """
    heads, group = q.shape[2:4]
    if len(mask.parts) > 2:
        return 1
    scores = group * max(part.num_queries * part.num_keys for part in mask.parts)
    fit = [n for n in range(1, heads + 1) if heads % n == 0 and n * scores <= BLOCK_SCORES]
    return max(fit, default=1)


def _forward_part(part: Part, q, k, v, bias):
    k, v, bias = (_spans(x, part) for x in (k, v, bias))

    def block(carry, x):
        q, pattern = x
        scores = _scores(q, k, bias, pattern)
        peak = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - peak)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = (weights.reshape(-1, k.shape[0]) @ v).reshape(q.shape) / total
        return carry, (out, peak[..., 0], total[..., 0])

    return _over_blocks(part, block, None, (q,))[1]


def _backward(mask: AttentionMask, saved, d_out):
    q, k, v, bias, out, lse = saved

    def head(q, k, v, lse, d_out, delta, bias):
        q, d_out = q.swapaxes(0, 1), d_out.swapaxes(0, 1)
        d_q, d_k, d_v = [], jnp.zeros_like(k), jnp.zeros_like(v)
        for part in mask.parts:
            d_rows, d_keys, d_values = _backward_part(part, q, k, v, bias, lse.T, d_out, delta.T)
            d_q.append(d_rows)
            start = 0
            for a, b in part.keys:
                piece = slice(start, start + b - a)
                d_k, d_v = d_k.at[a:b].add(d_keys[piece]), d_v.at[a:b].add(d_values[piece])
                start += b - a
        return jnp.concatenate(d_q, axis=1).swapaxes(0, 1), d_k, d_v

    # An einsum over short rows: as a multiplication and a sum it takes 15 times as long.
    delta = jnp.einsum("bqhgd,bqhgd->bqhg", out, d_out)
    d_q, d_k, d_v = _over_heads(head, (q, k, v, lse, d_out, delta), bias)
    return d_q, d_k, d_v, jnp.zeros_like(bias)


def _backward_part(part: Part, q, k, v, bias, lse, d_out, delta):
    k, v, bias = (_spans(x, part) for x in (k, v, bias))

    def block(carry, x):
        q, lse, d_out, delta, pattern = x
        d_k, d_v = carry
        rows, d_rows = q.reshape(-1, q.shape[-1]), d_out.reshape(-1, q.shape[-1])
        weights = jnp.exp(_scores(q, k, bias, pattern) - lse[..., None])
        d_weights = (d_rows @ v.T).reshape(weights.shape)
        d_scores = (weights * (d_weights - delta[..., None])).reshape(-1, k.shape[0])
        d_v = d_v + weights.reshape(-1, k.shape[0]).T @ d_rows
        d_k = d_k + d_scores.T @ rows
        return (d_k, d_v), (d_scores @ k).reshape(q.shape)

    zeros = jnp.zeros_like(k), jnp.zeros_like(v)
    (d_k, d_v), d_q = _over_blocks(part, block, zeros, (q, lse, d_out, delta))
    return d_q, d_k, d_v


_attend_heads.defvjp(_forward, _backward)


def _scores(q, k, bias, pattern):
    """Computes scores (G, rows, K) of queries (G, rows, d)."""
    scores = (q.reshape(-1, q.shape[-1]) @ k.T).reshape(*q.shape[:2], -1) + bias
    return scores if pattern is None else scores + pattern


def _over_blocks(part: Part, step, carry, rows):
    """Scans `step` over blocks of a part's queries; `rows` are arrays (G, Q, ...)."""
    rows = [x[:, part.start : part.stop] for x in rows]
    pattern = part.allowed()
    if pattern is not None:
        pattern = np.where(pattern, np.float32(0.0), _HIDDEN)
    count = _num_blocks(part.num_queries, rows[0].shape[0] * part.num_keys)
    if count == 1:
        return step(carry, (*rows, pattern))
    blocks = [x.reshape(x.shape[0], count, -1, *x.shape[2:]).swapaxes(0, 1) for x in rows]
    if pattern is not None:
        pattern = pattern.reshape(count, -1, part.num_keys)
    carry, outputs = jax.lax.scan(step, carry, (*blocks, pattern))
    joined = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(x.shape[1], -1, *x.shape[3:]), outputs)
    return carry, joined


def _num_blocks(rows: int, scores_per_row: int) -> int:
    """Returns the smallest number of equal blocks of at most `BLOCK_SCORES` scores."""
    return next(
        n
        for n in range(1, rows + 1)
        if rows % n == 0 and (rows // n * scores_per_row <= BLOCK_SCORES or n == rows)
    )


def _spans(x: jax.Array, part: Part) -> jax.Array:
    pieces = [x[start:stop] for start, stop in part.keys]
    return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces)
