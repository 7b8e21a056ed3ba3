"""The space the transformer works in: pixels themselves, or latents of an autoencoder.

Both know the way in from images in [-1, 1] and the way back.  A space is static; the autoencoder's
arrays are handed to it, as model parameters are.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.autoencoder import AutoencoderConfig

Parameters = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PixelSpace:
    """Images are what the transformer sees."""

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(h, w, C) of an image of this size, as the transformer sees it."""
        return height, width, 3

    def encode(self, parameters: Parameters, images: jax.Array, noise: jax.Array) -> jax.Array:
        """Images (..., H, W, 3) in [-1, 1] as they are; parameters and noise are not used."""
        del parameters, noise
        return images

    def sample(self, moments: jax.Array, noise: jax.Array) -> jax.Array:
        """There are no moments of pixels.

        Raises:
          UserError: always.
        """
        raise UserError(
            "the data holds moments of an autoencoder, but the model works on pixels: pack "
            "photographs without --autoencoder"
        )

    def decode(self, parameters: Parameters, x: jax.Array) -> jax.Array:
        """The inverse of `enter`."""
        del parameters
        return x


@dataclasses.dataclass(frozen=True)
class LatentSpace:
    """Latents: a sample of the autoencoder's posterior, scaled (DESIGN section 2, Autoencoder).

    Attributes:
      config: of the autoencoder.
      graph: its structure.
    """

    config: AutoencoderConfig
    graph: nnx.GraphDef

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(h, w, C) of an image of this size, as the transformer sees it."""
        factor = self.config.downsampling
        return height // factor, width // factor, self.config.latent_channels

    def encode(self, parameters: Parameters, images: jax.Array, noise: jax.Array) -> jax.Array:
        """Images (..., H, W, 3) in [-1, 1] and standard normal noise (..., h, w, C) -> latents."""
        flat = images.reshape(-1, *images.shape[-3:])
        posterior = nnx.merge(self.graph, parameters).encode(flat)
        moments = jnp.concatenate(posterior, axis=-1)
        latents = self.sample(moments, noise.reshape(posterior.mean.shape))
        return latents.reshape(*images.shape[:-3], *latents.shape[1:])

    def sample(self, moments: jax.Array, noise: jax.Array) -> jax.Array:
        """Moments (B, h, w, 2 C) of raw latents, mean and log variance -> latents (B, h, w, C)."""
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        latents = mean + jnp.exp(0.5 * log_variance) * noise
        latents = (latents - self.config.shift_factor) * self.config.scaling_factor
        return latents.astype(jnp.float32)

    def decode(self, parameters: Parameters, x: jax.Array) -> jax.Array:
        """Latents (B, h, w, C) -> images (B, H, W, 3) in about [-1, 1], float32."""
        latents = x / self.config.scaling_factor + self.config.shift_factor
        return nnx.merge(self.graph, parameters).decode(latents).astype(jnp.float32)


Space = PixelSpace | LatentSpace
