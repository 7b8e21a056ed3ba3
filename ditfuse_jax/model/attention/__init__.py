"""Attention: one function with several implementations.

Other modules add an implementation, a function with the arguments of `attend` up to `key_valid`,
with `IMPLEMENTATIONS.register(name)`.
"""

from collections.abc import Callable

import jax

from ditfuse_jax.model.attention import auto, cudnn, reference, splash, xla
from ditfuse_jax.model.attention.mask import AttentionMask, Part, Span
from ditfuse_jax.registry import Registry

__all__ = ["IMPLEMENTATIONS", "AttentionMask", "Part", "Span", "attend"]

Attention = Callable[[jax.Array, jax.Array, jax.Array, AttentionMask, jax.Array], jax.Array]

IMPLEMENTATIONS: Registry[Attention] = Registry(
    "model.attention",
    {
        auto.AUTO: auto.attend,
        "reference": reference.attend,
        "xla": xla.attend,
        "splash": splash.attend,
        "cudnn": cudnn.attend,
        "cudnn_split": cudnn.attend_split,
    },
)


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: AttentionMask,
    key_valid: jax.Array,
    *,
    implementation: str,
) -> jax.Array:
    """Computes scaled dot-product attention under a static mask.

    Args:
      q: queries (B, Q, H, d).
      k: keys (B, K, Hkv, d), H a multiple of Hkv (grouped-query attention).
      v: values (B, K, Hkv, d).
      mask: which queries attend to which keys.
      key_valid: (B, K) False for padding, which no query attends to.
      implementation: a name in `IMPLEMENTATIONS`.

    Returns:
      (B, Q, H, d) in the queries' dtype; the softmax is computed in float32.

    Raises:
      UserError: the implementation is unknown.
    """
    return IMPLEMENTATIONS.find(implementation)(q, k, v, mask, key_valid)
