"""A server over HTTP: images and a sentence in, a fused image out."""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes

if TYPE_CHECKING:
    from ditfuse_jax.serve.limits import Limits
    from ditfuse_jax.serve.run import serve

__all__ = ["Limits", "serve"]

__getattr__ = lazy_attributes(
    __name__, {"Limits": f"{__name__}.limits", "serve": f"{__name__}.run"}
)
