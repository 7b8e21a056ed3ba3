"""The space in which the transformer works: pixels, or latents of an autoencoder.

A space encodes images in [-1, 1] and decodes its values to images.  It is static; the autoencoder's
arrays are passed as arguments, like model parameters.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.autoencoder.config import AutoencoderConfig

if TYPE_CHECKING:
    from flax import nnx

Parameters = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PixelSpace:
    """The transformer works on the images' pixels."""

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Returns the shape (H, W, 3) of an encoded image."""
        return height, width, 3

    def encode(self, parameters: Parameters, images: jax.Array, noise: jax.Array) -> jax.Array:
        """Returns the images (..., H, W, 3) unchanged; parameters and noise are not used."""
        del parameters, noise
        return images

    def sample(self, moments: jax.Array, noise: jax.Array) -> jax.Array:
        """Refuses moments of an autoencoder.

        Raises:
          UserError: always.
        """
        raise UserError(
            "the data holds moments of an autoencoder, but the model works on pixels: pack "
            "photographs without --autoencoder"
        )

    def decode(self, parameters: Parameters, x: jax.Array) -> jax.Array:
        """Returns x unchanged; parameters are not used."""
        del parameters
        return x


@dataclasses.dataclass(frozen=True)
class LatentSpace:
    """The transformer works on scaled samples of the autoencoder's posterior.

    See docs/method.md, Autoencoder.

    Attributes:
      config: the autoencoder's config.
      graph: the autoencoder's graph definition.
    """

    config: AutoencoderConfig
    graph: "nnx.GraphDef"

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Returns the shape (h, w, C) of the latents of an image of this size in pixels."""
        factor = self.config.downsampling
        return height // factor, width // factor, self.config.latent_channels

    def encode(self, parameters: Parameters, images: jax.Array, noise: jax.Array) -> jax.Array:
        """Encodes images.

        Args:
          parameters: of the autoencoder.
          images: (..., H, W, 3) in [-1, 1].
          noise: (..., h, w, C) standard normal noise, which selects the sample.

        Returns:
          (..., h, w, C) float32.
        """
        flat = images.reshape(-1, *images.shape[-3:])
        posterior = self._module(parameters).encode(flat)
        moments = jnp.concatenate(posterior, axis=-1)
        latents = self.sample(moments, noise.reshape(posterior.mean.shape))
        return latents.reshape(*images.shape[:-3], *latents.shape[1:])

    def sample(self, moments: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples latents from moments of the posterior.

        Args:
          moments: (B, h, w, 2 C) mean and log variance of unscaled latents.
          noise: (B, h, w, C) standard normal noise.

        Returns:
          (B, h, w, C) float32.
        """
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        latents = mean + jnp.exp(0.5 * log_variance) * noise
        latents = (latents - self.config.shift_factor) * self.config.scaling_factor
        return latents.astype(jnp.float32)

    def decode(self, parameters: Parameters, x: jax.Array) -> jax.Array:
        """Decodes latents (B, h, w, C) to images (B, H, W, 3) in about [-1, 1], float32."""
        latents = x / self.config.scaling_factor + self.config.shift_factor
        return self._module(parameters).decode(latents).astype(jnp.float32)

    def _module(self, parameters: Parameters) -> Any:
        from flax import nnx  # here, so that a command whose programs are kept needs no Flax

        return nnx.merge(self.graph, parameters)


Space = PixelSpace | LatentSpace
