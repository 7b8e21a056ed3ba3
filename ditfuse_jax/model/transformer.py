"""The Phi-3 backbone: pre-norm blocks with stacked parameters, scanned or unrolled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from ditfuse_jax.model.attention import AttentionMask
from ditfuse_jax.model.attention.context_parallel import context_parallel_attention, pad_queries
from ditfuse_jax.model.condition import KeyValues
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.layers import Linear, RMSNorm
from ditfuse_jax.model.logical_axes import num_shards, with_logical_constraint
from ditfuse_jax.model.quantized_cache import QuantizedKeyValues
from ditfuse_jax.model.remat import BLOCK_INPUT, remat
from ditfuse_jax.model.rngs import InitialKeys, Rngs
from ditfuse_jax.model.rope import apply_rope


class TokenInputs(NamedTuple):
    """Arrays that attention needs about the tokens of one pass.

    Attributes:
      cos: (B, Q, d/2) rotary cosines of the queries.
      sin: (B, Q, d/2) rotary sines.
      key_valid: (B, K) False for keys that are padding; the prefix's keys come first.
    """

    cos: jax.Array
    sin: jax.Array
    key_valid: jax.Array


class AttentionStructure(NamedTuple):
    """What attention needs at compile time.

    Attributes:
      mask: over the queries (padding included) and the keys (padding of sharding excluded).
      lengths: numbers of keys of the prefix, if there is one, and of the tokens themselves.
    """

    mask: AttentionMask
    lengths: tuple[int, ...]


class SelfAttention(nnx.Module):
    """Grouped-query attention with rotary positions and one fused projection.

    The fused kernel is stored per key/value head, (D, Hkv, G + 2, d) with the G query heads, then
    the key, then the value, so that sharding over heads keeps queries with their keys.
    """

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        heads, kv_heads = config.num_heads, config.num_kv_heads
        group, dim, width = heads // kv_heads, config.head_dim, config.hidden_size
        self.qkv_proj = Linear(
            (width,),
            (kv_heads, group + 2, dim),
            ("embed", "kv_heads", None, "head_dim"),
            rngs=rngs,
            dtype=config.dtype,
        )
        self.o_proj = Linear(
            (heads, dim), (width,), ("heads", "head_dim", "embed"), rngs=rngs, dtype=config.dtype
        )
        self.implementation = config.attention

    def __call__(
        self,
        x: jax.Array,
        tokens: TokenInputs,
        structure: AttentionStructure,
        prefix: KeyValues | None,
    ) -> tuple[jax.Array, KeyValues]:
        """(B, Q, D) -> (B, Q, D) and the keys and values of these tokens (without the prefix)."""
        qkv = checkpoint_name(self.qkv_proj(x), "qkv")
        batch, length, kv_heads, rows, dim = qkv.shape
        # Split, not indexed: the gradient is then one concatenation, not a sum of padded pieces.
        q, k, v = jax.lax.split(qkv, (rows - 2, 1, 1), axis=3)
        q = q.reshape(batch, length, kv_heads * (rows - 2), dim)
        q = apply_rope(q, tokens.cos, tokens.sin)
        k = apply_rope(k[:, :, :, 0], tokens.cos, tokens.sin)
        kv_axes = ("batch", "sequence", "kv_heads", "head_dim")
        own = KeyValues(*(with_logical_constraint(x, *kv_axes) for x in (k, v[:, :, :, 0])))
        pieces = (own,) if prefix is None else (prefix, own)
        q = with_logical_constraint(q, "batch", "sequence", "heads", "head_dim")
        out = context_parallel_attention(
            q,
            [piece.keys for piece in pieces],
            [piece.values for piece in pieces],
            structure.lengths,
            structure.mask,
            tokens.key_valid,
            implementation=self.implementation,
        )
        return checkpoint_name(self.o_proj(out), "o_proj"), own


class MLP(nnx.Module):
    """SwiGLU with fused gate and up projections, gate first (Shazeer 2020)."""

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_up_proj = Linear(
            (width,), (2, inner), ("embed", None, "mlp"), rngs=rngs, dtype=config.dtype
        )
        self.down_proj = Linear((inner,), (width,), ("mlp", "embed"), rngs=rngs, dtype=config.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, D) -> (B, N, D)."""
        hidden = checkpoint_name(self.gate_up_proj(x), "gate_up")
        gate, up = (x[..., 0, :] for x in jnp.split(hidden, 2, axis=-2))
        hidden = with_logical_constraint(jax.nn.silu(gate) * up, "batch", "sequence", "mlp")
        return self.down_proj(hidden)


class Block(nnx.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        norm = {"eps": config.rms_norm_eps, "dtype": config.dtype}
        self.input_layernorm = RMSNorm(config.hidden_size, **norm)
        self.self_attn = SelfAttention(config, rngs=rngs)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, **norm)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        tokens: TokenInputs,
        structure: AttentionStructure,
        prefix: KeyValues | None,
    ) -> tuple[jax.Array, KeyValues]:
        """(B, N, D) -> (B, N, D) and this layer's keys and values."""
        x = checkpoint_name(x, BLOCK_INPUT)
        out, own = self.self_attn(self.input_layernorm(x), tokens, structure, prefix)
        x = x + out
        x = x + self.mlp(self.post_attention_layernorm(x))
        return with_logical_constraint(x, "batch", "sequence", "activation"), own


class Transformer(nnx.Module):
    """All layers, with stacked parameters (L, ...), scanned or unrolled, and the final norm."""

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        keys = jax.random.split(rngs.params(), config.num_layers)
        self.layers = nnx.vmap(lambda key: Block(config, rngs=InitialKeys(key)))(keys)
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, dtype=config.dtype)
        self.remat, self.unroll = config.remat, config.unroll
        self.quantized: str | None = None  # set by `quantized_layers.quantize_model`

    def __call__(
        self,
        x: jax.Array,
        tokens: TokenInputs,
        mask: AttentionMask,
        *,
        prefix: KeyValues | QuantizedKeyValues | None = None,
        return_key_values: bool = False,
    ) -> tuple[jax.Array, KeyValues | QuantizedKeyValues | None]:
        """Runs all layers.

        Args:
          x: (B, N, D) embedded tokens.
          tokens: their rotary tables and validity.
          mask: which tokens attend to which keys; the keys are the prefix's, then those of x.
          prefix: (L, B, P, Hkv, d) keys and values of an earlier pass (the condition's), as it
            returned them.
          return_key_values: also return this pass's keys and values, (L, B, N', Hkv, d).  N' is N,
            rounded up with padding to the number of shards of the sequence.  In 8 bits if the
            model is quantised so.

        Returns:
          The final hidden states (B, N, D), normalised, and the keys and values or None.
        """
        graph, parameters = nnx.split(self.layers)

        length = x.shape[1]
        before = () if prefix is None else (tokens.key_valid.shape[1] - length,)
        padding = -length % num_shards("sequence")
        structure = AttentionStructure(pad_queries(mask, padding), (*before, length))
        x, cos, sin = (_pad(array, padding) for array in (x, tokens.cos, tokens.sin))
        tokens = TokenInputs(cos, sin, tokens.key_valid)

        def layer(x, scanned):
            if self.quantized and self.unroll:
                # Tied to x, or XLA dequantises all layers ahead of the loop over sampling's steps.
                x, scanned = jax.lax.optimization_barrier((x, scanned))
            parameters, prefix = scanned
            if isinstance(prefix, QuantizedKeyValues):
                prefix = prefix.dequantize(x.dtype)
            x, own = nnx.merge(graph, parameters)(x, tokens, structure, prefix)
            if not return_key_values:
                return x, None
            return x, QuantizedKeyValues.of(own) if self.quantized else own

        x = with_logical_constraint(x, "batch", "sequence", "activation")
        layer = remat(layer, self.remat, in_scan=not self.unroll)
        run = _unrolled if self.unroll else jax.lax.scan
        x, key_values = run(layer, x, (parameters, prefix))
        # Gathered before slicing: XLA computed a wrong gradient where the slice ended inside a
        # device's shard of the sequence (fsdp=2, context=2, tensor=2).
        x = with_logical_constraint(self.norm(x), "batch", None, "activation")
        return x[:, :length], key_values


def _unrolled(layer: Callable, x: jax.Array, stacked: Any) -> tuple[jax.Array, Any]:
    """`jax.lax.scan` unrolled: values saved for the backward pass need not be stacked."""
    results = []
    leaves, structure = jax.tree.flatten(stacked)
    # Split, not indexed: the gradient is then one stack, not a sum of padded layers.
    for pieces in zip(*(jnp.split(leaf, len(leaf)) for leaf in leaves), strict=True):
        x, own = layer(x, jax.tree.unflatten(structure, [piece[0] for piece in pieces]))
        results.append(own)
    return x, jax.tree.map(lambda *own: jnp.stack(own), *results)


def _pad(x: jax.Array, count: int) -> jax.Array:
    """(B, N, ...) -> (B, N + count, ...)."""
    return jnp.pad(x, ((0, 0), (0, count), *[(0, 0)] * (x.ndim - 2))) if count else x
