"""Attention over a sequence that is spread over devices: queries stay, keys and values come.

Each device keeps its run of queries and gathers all keys and values (the gradient scatters them
back).  As every run has a mask of its own, known beforehand, a device works on the pairs its
queries may see and on no others.  A sequence whose length does not divide is padded by the caller
with queries whose results nobody reads (`pad_queries`).
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
    """Attention whose keys and values come in pieces, each spread over devices or not.

    Args:
      q: (B, Q, H, d).
      keys: pieces (B, K_i, Hkv, d).
      values: likewise.
      lengths: how much of each piece is real; what is behind is padding.
      mask: over the queries and the real keys of all pieces, joined.
      key_valid: (B, sum of lengths).
      implementation: see `attend`.

    Returns:
      (B, Q, H, d), spread like q.
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
    # Of the devices, in the order of their indices along the sequence.
    runs = [slice_queries(mask, start, start + size) for start in range(0, q.shape[1], size)]

    def on_each(q: jax.Array, key_valid: jax.Array, *pieces: jax.Array) -> jax.Array:
        if sequence is None:
            return local(q, mask, key_valid, *pieces)
        # Outside of the branches: all devices take part in a gathering.
        whole = [
            jax.lax.all_gather(x, sequence, axis=1, tiled=True) if spec[1] else x
            for x, spec in zip(pieces, specs, strict=True)
        ]
        branches = [
            lambda valid, q, *pieces, run=run: local(q, run, valid, *pieces) for run in runs
        ]
        chosen = _choose(jax.lax.axis_index(sequence), branches, key_valid, q, *whole)
        return checkpoint_attention(chosen)

    # Written out per device also where only batch and heads are spread: kernels are opaque to the
    # compiler, which would gather everything around them.
    return jax.shard_map(
        on_each,
        mesh=place.mesh,
        in_specs=(place.spec, PartitionSpec(place.spec[0]), *specs),
        out_specs=place.spec,
        check_vma=False,  # kernels do not say over which axes their results vary
    )(q, key_valid, *pieces)


def _choose(
    number: jax.Array, branches: Sequence[Callable], fixed: jax.Array, *arguments: jax.Array
) -> jax.Array:
    """`lax.switch` that keeps its arguments for the backward pass and nothing else.

    The gradient of a plain switch holds what every branch would keep, room for all of them on
    every device.  `fixed` has no gradient.
    """

    @jax.custom_vjp
    def chosen(number, fixed, *arguments):
        return jax.lax.switch(number, branches, fixed, *arguments)

    def backward(kept, cotangent):
        number, fixed, *arguments = kept

        def gradient(branch):
            def run(fixed, cotangent, *arguments):
                return jax.vjp(lambda *moving: branch(fixed, *moving), *arguments)[1](cotangent)

            return run

        gradients = [gradient(branch) for branch in branches]
        return None, None, *jax.lax.switch(number, gradients, fixed, cotangent, *arguments)

    chosen.defvjp(lambda *arguments: (chosen(*arguments), arguments), backward)
    return chosen(number, fixed, *arguments)


def pad_queries(mask: AttentionMask, count: int) -> AttentionMask:
    """The mask with `count` more queries, which see one key so that they stay finite."""
    if not count:
        return mask
    start = mask.num_queries
    padding = Part(start, start + count, ((0, 1),))
    return dataclasses.replace(mask, parts=(*mask.parts, padding))


def slice_queries(mask: AttentionMask, start: int, stop: int) -> AttentionMask:
    """The mask of the queries `[start, stop)` alone, counted from zero."""
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
