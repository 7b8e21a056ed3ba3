"""Attention: one function, several implementations.

A new implementation is a file with an `attend` function and one line in `IMPLEMENTATIONS`.
"""

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.attention import cudnn, reference, splash, xla
from ditfuse_jax.model.attention.mask import AttentionMask, Part, Span

IMPLEMENTATIONS = {
    "reference": reference.attend,
    "xla": xla.attend,
    "splash": splash.attend,
    "cudnn": cudnn.attend,
    "cudnn_split": cudnn.attend_split,
}

__all__ = ["IMPLEMENTATIONS", "AttentionMask", "Part", "Span", "attend"]


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: AttentionMask,
    key_valid: jax.Array,
    *,
    implementation: str,
) -> jax.Array:
    """Scaled dot-product attention under a static mask.

    Args:
      q: queries (B, Q, H, d).
      k: keys (B, K, Hkv, d), H a multiple of Hkv (grouped-query attention).
      v: values (B, K, Hkv, d).
      mask: which queries see which keys.
      key_valid: (B, K) True for real tokens; padding is seen by nobody.
      implementation: a name in `IMPLEMENTATIONS`.

    Returns:
      (B, Q, H, d) in the queries' dtype; softmax in float32.

    Raises:
      UserError: the implementation is unknown.
    """
    if implementation not in IMPLEMENTATIONS:
        raise UserError(
            f"attention {implementation!r} is unknown; choose from {', '.join(IMPLEMENTATIONS)}"
        )
    return IMPLEMENTATIONS[implementation](q, k, v, mask, key_valid)
