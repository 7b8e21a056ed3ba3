"""The KL autoencoder, which maps pixels to latents and back."""

from ditfuse_jax.model.autoencoder.config import AutoencoderConfig, read_autoencoder_config
from ditfuse_jax.model.autoencoder.kl import Autoencoder, Posterior

__all__ = ["Autoencoder", "AutoencoderConfig", "Posterior", "read_autoencoder_config"]
