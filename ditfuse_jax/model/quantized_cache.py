"""The condition's keys and values in 8 bits, for models whose kernels are quantised.

In bfloat16 those of three guidance branches take more memory than OmniGen's kernels in 4 bits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.model.condition import KeyValues


class QuantizedKeyValues(NamedTuple):
    """Keys and values of some tokens, with one scale for each token and head.

    Attributes:
      keys: (..., N, Hkv * d) int8; the heads are joined, because TPUs pad short dimensions.
      values: (..., N, Hkv * d) int8.
      key_scales: (..., N, Hkv) bfloat16.
      value_scales: (..., N, Hkv) bfloat16.
    """

    keys: jax.Array
    values: jax.Array
    key_scales: jax.Array
    value_scales: jax.Array

    @classmethod
    def of(cls, pieces: KeyValues) -> "QuantizedKeyValues":
        """Quantises keys and values (..., N, Hkv, d)."""
        (keys, key_scales), (values, value_scales) = map(_quantize, pieces)
        return cls(keys, values, key_scales, value_scales)

    def dequantize(self, dtype: jnp.dtype) -> KeyValues:
        """Returns keys and values (..., N, Hkv, d)."""
        return KeyValues(
            _dequantize(self.keys, self.key_scales, dtype),
            _dequantize(self.values, self.value_scales, dtype),
        )


def _quantize(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = x.astype(jnp.float32)
    scales = (jnp.max(jnp.abs(x), axis=-1) / 127).astype(jnp.bfloat16)
    wide = scales.astype(jnp.float32)[..., None]
    codes = jnp.clip(jnp.round(x / jnp.where(wide == 0, 1, wide)), -127, 127).astype(jnp.int8)
    return codes.reshape(*x.shape[:-2], -1), scales


def _dequantize(codes: jax.Array, scales: jax.Array, dtype: jnp.dtype) -> jax.Array:
    codes = codes.reshape(*scales.shape, -1).astype(jnp.float32)
    return (codes * scales.astype(jnp.float32)[..., None]).astype(dtype)
