"""A page in the browser: images and a sentence in, a fused image out."""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes

if TYPE_CHECKING:
    from ditfuse_jax.app.run import app

__all__ = ["app"]

__getattr__ = lazy_attributes(__name__, {"app": f"{__name__}.run"})
