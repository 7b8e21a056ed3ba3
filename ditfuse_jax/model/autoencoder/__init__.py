"""The KL autoencoder, which maps pixels to latents and back."""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes
from ditfuse_jax.model.autoencoder.config import AutoencoderConfig, read_autoencoder_config

if TYPE_CHECKING:
    from ditfuse_jax.model.autoencoder.kl import Autoencoder, Posterior

__all__ = ["Autoencoder", "AutoencoderConfig", "Posterior", "read_autoencoder_config"]

# Its module imports Flax.
_KL = "ditfuse_jax.model.autoencoder.kl"
__getattr__ = lazy_attributes(__name__, {"Autoencoder": _KL, "Posterior": _KL})
