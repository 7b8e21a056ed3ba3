"""SDXL's autoencoder: diffusers' `AutoencoderKL` (Rombach et al. 2022; Podell et al. 2023)."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.autoencoder.blocks import (
    Downsampler,
    MiddleBlock,
    ResidualBlock,
    Upsampler,
)
from ditfuse_jax.model.autoencoder.config import AutoencoderConfig
from ditfuse_jax.model.autoencoder.layers import Conv, GroupNorm
from ditfuse_jax.model.autoencoder.strips import map_strips, moments_of
from ditfuse_jax.model.rngs import Rngs

# Larger images are processed in strips: a block then needs two activations instead of about five.
_WHOLE_PIXELS = 768 * 768
_STRIP_ROWS = 64


class Posterior(NamedTuple):
    """A diagonal Gaussian over unscaled latents: mean and log variance, (B, h, w, C) float32."""

    mean: jax.Array
    log_variance: jax.Array


class Stage(nnx.Module):
    """The residual blocks of one resolution."""

    def __init__(
        self, inputs: int, outputs: int, layers: int, groups: int, *, rngs: Rngs, dtype: str
    ):
        sizes = [inputs] + [outputs] * layers
        self.resnets = nnx.List(
            [
                ResidualBlock(before, after, groups, rngs=rngs, dtype=dtype)
                for before, after in itertools.pairwise(sizes)
            ]
        )

    def __call__(self, x: jax.Array, rows: int | None) -> jax.Array:
        for block in self.resnets:
            x = block(x, rows)
        return x


class DownStage(Stage):
    """Residual blocks, then downsampling by 2."""

    def __init__(self, *sizes: int, last: bool, rngs: Rngs, dtype: str):
        super().__init__(*sizes, rngs=rngs, dtype=dtype)
        self.downsamplers = nnx.List(
            [] if last else [Downsampler(sizes[1], rngs=rngs, dtype=dtype)]
        )

    def __call__(self, x: jax.Array, rows: int | None) -> jax.Array:
        x = super().__call__(x, rows)
        for down in self.downsamplers:
            x = down(x, rows)
        return x


class UpStage(Stage):
    """Residual blocks, then upsampling by 2."""

    def __init__(self, *sizes: int, last: bool, rngs: Rngs, dtype: str):
        super().__init__(*sizes, rngs=rngs, dtype=dtype)
        self.upsamplers = nnx.List([] if last else [Upsampler(sizes[1], rngs=rngs, dtype=dtype)])

    def __call__(self, x: jax.Array, rows: int | None) -> jax.Array:
        x = super().__call__(x, rows)
        for up in self.upsamplers:
            x = up(x, rows)
        return x


class Encoder(nnx.Module):
    """Computes the posterior's moments from images."""

    def __init__(self, config: AutoencoderConfig, *, rngs: Rngs, dtype: str):
        kinds = {"rngs": rngs, "dtype": dtype}
        channels, groups = config.block_channels, config.norm_groups
        self.conv_in = Conv(3, channels[0], 3, **kinds)
        sizes = itertools.pairwise((channels[0], *channels))
        self.down_blocks = nnx.List(
            [
                DownStage(
                    before,
                    after,
                    config.layers_per_block,
                    groups,
                    last=number == len(channels) - 1,
                    **kinds,
                )
                for number, (before, after) in enumerate(sizes)
            ]
        )
        self.mid_block = MiddleBlock(channels[-1], groups, **kinds)
        self.conv_norm_out = GroupNorm(channels[-1], groups)
        self.conv_out = Conv(channels[-1], 2 * config.latent_channels, 3, **kinds)

    def __call__(self, images: jax.Array, rows: int | None) -> jax.Array:
        """(B, H, W, 3) -> (B, h, w, 2 C)."""
        x = self.conv_in(images)
        for stage in self.down_blocks:
            x = stage(x, rows)
            # Half as many rows at half the resolution cover the same part of the image.
            rows = rows and max(rows // 2, 1)
        x = self.mid_block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class Decoder(nnx.Module):
    """Computes images from latents."""

    def __init__(self, config: AutoencoderConfig, *, rngs: Rngs, dtype: str):
        kinds = {"rngs": rngs, "dtype": dtype}
        channels, groups = config.block_channels[::-1], config.norm_groups
        self.conv_in = Conv(config.latent_channels, channels[0], 3, **kinds)
        self.mid_block = MiddleBlock(channels[0], groups, **kinds)
        sizes = itertools.pairwise((channels[0], *channels))
        self.up_blocks = nnx.List(
            [
                UpStage(
                    before,
                    after,
                    config.layers_per_block + 1,
                    groups,
                    last=number == len(channels) - 1,
                    **kinds,
                )
                for number, (before, after) in enumerate(sizes)
            ]
        )
        self.conv_norm_out = GroupNorm(channels[-1], groups)
        self.conv_out = Conv(channels[-1], 3, 3, **kinds)

    def __call__(self, latents: jax.Array, rows: int | None) -> jax.Array:
        """(B, h, w, C) -> (B, H, W, 3); `rows` of the image per strip."""
        x = self.mid_block(self.conv_in(latents))
        count = len(self.up_blocks)
        for number, stage in enumerate(self.up_blocks):
            x = stage(x, rows and max(rows >> (count - 1 - number), 1))
        if rows is None:
            return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))
        moments = moments_of(self.conv_norm_out, x, rows)

        def out(strip: jax.Array, inside: jax.Array) -> jax.Array:
            active = jax.nn.silu(self.conv_norm_out.normalise(strip, moments))
            return self.conv_out(jnp.where(inside, active, 0), rows=(0, 0))

        return map_strips(out, x, rows, halo=1)


class Autoencoder(nnx.Module):
    """Maps images in [-1, 1] to a posterior over latents, and latents to images."""

    def __init__(self, config: AutoencoderConfig, *, rngs: Rngs, dtype: str = "float32"):
        kinds = {"rngs": rngs, "dtype": dtype}
        channels = config.latent_channels
        self.config = config
        self.encoder = Encoder(config, **kinds)
        self.decoder = Decoder(config, **kinds)
        self.quant_conv = (
            Conv(2 * channels, 2 * channels, 1, **kinds) if config.quant_conv else None
        )
        self.post_quant_conv = (
            Conv(channels, channels, 1, **kinds) if config.post_quant_conv else None
        )

    def encode(self, images: jax.Array, strip_rows: int | None = None) -> Posterior:
        """Computes the posterior of images.

        Args:
          images: (B, H, W, 3) in [-1, 1], sides multiples of `config.downsampling`.
          strip_rows: rows of the image to process at a time, with the same result; by default all
            rows of small images.

        Raises:
          UserError: a side is not a multiple of `config.downsampling`.
        """
        height, width = images.shape[1:3]
        factor = self.config.downsampling
        if height % factor or width % factor:
            raise UserError(
                f"the autoencoder cannot encode {width}x{height} pixels: both sides must be "
                f"multiples of {factor}"
            )
        rows = self._rows(height, width, strip_rows)
        moments = self.encoder(images, rows)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, log_variance = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, -30.0, 20.0))

    def decode(self, latents: jax.Array, strip_rows: int | None = None) -> jax.Array:
        """Decodes unscaled latents.

        Args:
          latents: (B, h, w, C).
          strip_rows: see `encode`.

        Returns:
          Images (B, H, W, 3) in about [-1, 1], float32.
        """
        factor = self.config.downsampling
        rows = self._rows(latents.shape[1] * factor, latents.shape[2] * factor, strip_rows)
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents, rows).astype(jnp.float32)

    def _rows(self, height: int, width: int, wanted: int | None) -> int | None:
        """Returns rows per strip: a divisor of the height, whole at every resolution, or None."""
        if wanted is None:
            if height * width <= _WHOLE_PIXELS:
                return None
            wanted = _STRIP_ROWS
        factor = self.config.downsampling
        count = height // factor  # strips must cut between latents
        most = max(wanted // factor, 1)
        return factor * max(n for n in range(1, most + 1) if count % n == 0)
