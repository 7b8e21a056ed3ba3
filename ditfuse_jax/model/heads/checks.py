"""Which models the heads of this package support; needs no Flax."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ditfuse_jax.errors import UserError

if TYPE_CHECKING:
    from ditfuse_jax.model.config import ModelConfig


def require_pixels(config: "ModelConfig") -> None:
    """Checks that a head which weights the sources' pixels can be used.

    Raises:
      UserError: the model predicts a velocity or works on latents.
    """
    if config.prediction != "clean" or config.latent_downsampling != 1:
        raise UserError(
            f"model.head {config.head!r} weights the sources' pixels: it needs "
            "model.prediction='clean' and a model on pixels (model.latent_downsampling=1)"
        )


# Head of this package -> the same as its method `check`.
CHECKS: "dict[str, Callable[[ModelConfig], None]]" = {
    "linear": lambda config: None,
    "blend": require_pixels,
    "bands": require_pixels,
}
