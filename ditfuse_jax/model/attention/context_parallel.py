"""Context parallelism: attention over a sequence that is sharded over devices.

Each device keeps its shard of the queries and gathers all keys and values; the gradient scatters
them back.  The mask of every shard is static, so a device computes only pairs that its queries
attend to.  If the length is not divisible by the number of shards, the caller pads the queries
(`pad_queries`) and ignores their results.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ditfuse_jax.model.attention import AttentionMask, Part, attend
from ditfuse_jax.model.logical_axes import activation_sharding, num_shards
from ditfuse_jax.model.remat import checkpoint_attention


def context_parallel_attention(
    q: jax.Array,
    keys: Sequence[jax.Array],
    values: Sequence[jax.Array],
    lengths: Sequence[int],
    mask: AttentionMask,
    key_valid: jax.Array,
    *,
    implementation: str,
) -> jax.Array:
    """Computes attention whose keys and values are given in pieces, each sharded or not.

    Args:
      q: (B, Q, H, d) queries.
      keys: pieces (B, K_i, Hkv, d).
      values: pieces (B, K_i, Hkv, d).
      lengths: length of each piece without the padding at its end.
      mask: over the queries and the joined keys without padding.
      key_valid: (B, sum of lengths).
      implementation: see `attend`.

    Returns:
      (B, Q, H, d), sharded like q.
    """

    def joined(pieces: Sequence[jax.Array]) -> jax.Array:
        cut = [x[:, :n] for x, n in zip(pieces, lengths, strict=True)]
        return cut[0] if len(cut) == 1 else jnp.concatenate(cut, axis=1)

    def local(q: jax.Array, mask: AttentionMask, key_valid: jax.Array, *pieces) -> jax.Array:
        k, v = pieces[: len(keys)], pieces[len(keys) :]
        return attend(q, joined(k), joined(v), mask, key_valid, implementation=implementation)

    place = activation_sharding(("batch", "sequence", "heads", "head_dim"), q.shape)
    if place is None or place.mesh.size == 1:
        return local(q, mask, key_valid, *keys, *values)
    sequence = place.spec[1]
    pieces = (*keys, *values)
    specs = [_spec(("batch", "sequence", "kv_heads", "head_dim"), x) for x in pieces]
    size = q.shape[1] // (num_shards("sequence") if sequence else 1)
    # One mask per device, in the order of their indices along the sequence axis.
    masks = [slice_queries(mask, start, start + size) for start in range(0, q.shape[1], size)]

    def on_each(q: jax.Array, key_valid: jax.Array, *pieces: jax.Array) -> jax.Array:
        if sequence is None:
            return local(q, mask, key_valid, *pieces)
        # Outside of the branches, because all devices must take part in the all-gather.
        whole = [
            jax.lax.all_gather(x, sequence, axis=1, tiled=True) if spec[1] else x
            for x, spec in zip(pieces, specs, strict=True)
        ]
        branches = [
            lambda valid, q, *pieces, mask=mask: local(q, mask, valid, *pieces) for mask in masks
        ]
        chosen = _choose(jax.lax.axis_index(sequence), branches, key_valid, q, *whole)
        return checkpoint_attention(chosen)

    # Per device also if only batch and heads are sharded: kernels are opaque to the compiler, which
    # would gather all their arguments.
    return jax.shard_map(
        on_each,
        mesh=place.mesh,
        in_specs=(place.spec, PartitionSpec(place.spec[0]), *specs),
        out_specs=place.spec,
        check_vma=False,  # kernels do not declare over which axes their results vary
    )(q, key_valid, *pieces)


def _choose(
    number: jax.Array, branches: Sequence[Callable], fixed: jax.Array, *arguments: jax.Array
) -> jax.Array:
    """`lax.switch` that saves only its arguments for the backward pass.

    The gradient of a plain switch allocates the saved values of all branches on every device.

    Args:
      number: index of the branch.
      branches: functions of `(fixed, *arguments)`.
      fixed: has no gradient.
      arguments: have gradients.
    """

    @jax.custom_vjp
    def chosen(number, fixed, *arguments):
        return jax.lax.switch(number, branches, fixed, *arguments)

    def backward(saved, cotangent):
        number, fixed, *arguments = saved

        def gradient(branch):
            def run(fixed, cotangent, *arguments):
                return jax.vjp(lambda *moving: branch(fixed, *moving), *arguments)[1](cotangent)

            return run

        gradients = [gradient(branch) for branch in branches]
        return None, None, *jax.lax.switch(number, gradients, fixed, cotangent, *arguments)

    chosen.defvjp(lambda *arguments: (chosen(*arguments), arguments), backward)
    return chosen(number, fixed, *arguments)


def pad_queries(mask: AttentionMask, count: int) -> AttentionMask:
    """Returns the mask with `count` more queries, which attend to the first key only.

    Without any key their results would not be finite.
    """
    if not count:
        return mask
    start = mask.num_queries
    padding = Part(start, start + count, ((0, 1),))
    return dataclasses.replace(mask, parts=(*mask.parts, padding))


def slice_queries(mask: AttentionMask, start: int, stop: int) -> AttentionMask:
    """Returns the mask of the queries `[start, stop)`, numbered from zero."""
    parts = []
    for part in mask.parts:
        first, last = max(part.start, start), min(part.stop, stop)
        if first >= last:
            continue
        keys = part.keys
        if part.causal_tail:  # the tail ends with the last of these queries
            keys = _without_last(keys, part.stop - last)
        parts.append(Part(first - start, last - start, keys, part.causal_tail))
    return AttentionMask(tuple(parts), mask.num_keys)


def _without_last(spans: tuple[tuple[int, int], ...], count: int) -> tuple[tuple[int, int], ...]:
    kept = list(spans)
    while count:
        start, stop = kept.pop()
        if stop - start > count:
            kept.append((start, stop - count))
            break
        count -= stop - start
    return tuple(kept)


def _spec(axes: tuple[str, ...], x: jax.Array) -> PartitionSpec:
    place = activation_sharding(axes, x.shape)
    assert place is not None
    return place.spec
