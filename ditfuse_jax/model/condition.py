"""What the target is conditioned on, as given and as encoded."""

from typing import TYPE_CHECKING, NamedTuple

import jax

if TYPE_CHECKING:
    from ditfuse_jax.model.quantized_cache import QuantizedKeyValues


class Condition(NamedTuple):
    """The instruction and the images that the target is conditioned on.

    Attributes:
      tokens: (B, T) token ids of all text slots joined.
      token_valid: (B, T) False for padding.
      images: (B, n, H, W, C) condition images: pixels in [-1, 1], or latents.
      image_valid: (B, n) False where an image is absent; its values are ignored.
    """

    tokens: jax.Array
    token_valid: jax.Array
    images: jax.Array
    image_valid: jax.Array


class KeyValues(NamedTuple):
    """Keys and values of some tokens: (B, N, Hkv, d) each, or (L, B, N, Hkv, d) for all layers."""

    keys: jax.Array
    values: jax.Array


class EncodedCondition(NamedTuple):
    """A condition's keys and values, for any number of calls of `denoise`.

    Attributes:
      key_values: (L, B, C', Hkv, d), C' at least C, as `Transformer` returns them.
      valid: (B, C) False for padding and absent images.
      cos: (B, 1 + P, d/2) rotary cosines of a draw's tokens.
      sin: (B, 1 + P, d/2) rotary sines.
      target_bias: (B, P, D) added to the target tokens; see `ModelConfig.source_skip`,
        `conv_stem` and `pooled_prompt`.
    """

    key_values: "KeyValues | QuantizedKeyValues"
    valid: jax.Array
    cos: jax.Array
    sin: jax.Array
    target_bias: jax.Array
