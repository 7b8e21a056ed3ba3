"""A page in the browser: images and a sentence in, a fused image out."""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes

if TYPE_CHECKING:
    from ditfuse_jax.app.equivalents import ModelChoice
    from ditfuse_jax.app.host import page_maker
    from ditfuse_jax.app.run import app

__all__ = ["ModelChoice", "app", "page_maker"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "ModelChoice": f"{__name__}.equivalents",
        "app": f"{__name__}.run",
        "page_maker": f"{__name__}.host",
    },
)
