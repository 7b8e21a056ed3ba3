"""Residual blocks, downsampling and upsampling, for whole images or in strips of rows."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.autoencoder.layers import Attention, Conv, GroupNorm
from ditfuse_jax.model.autoencoder.strips import gather_strips, join_moments, map_strips, moments_of
from ditfuse_jax.model.rngs import Rngs


class ResidualBlock(nnx.Module):
    """Twice norm, SiLU and convolution, added to the input (diffusers' `ResnetBlock2D`)."""

    def __init__(self, inputs: int, outputs: int, groups: int, *, rngs: Rngs, dtype: str):
        self.norm1 = GroupNorm(inputs, groups)
        self.conv1 = Conv(inputs, outputs, 3, rngs=rngs, dtype=dtype)
        self.norm2 = GroupNorm(outputs, groups)
        self.conv2 = Conv(outputs, outputs, 3, rngs=rngs, dtype=dtype)
        self.conv_shortcut = (
            Conv(inputs, outputs, 1, rngs=rngs, dtype=dtype) if inputs != outputs else None
        )

    def __call__(self, x: jax.Array, rows: int | None = None) -> jax.Array:
        """(B, H, W, inputs) -> (B, H, W, outputs); `rows` per strip, None for the whole image."""
        if rows is None:
            hidden = self.conv1(jax.nn.silu(self.norm1(x)))
            hidden = self.conv2(jax.nn.silu(self.norm2(hidden)))
            return self._shortcut(x) + hidden
        first = moments_of(self.norm1, x, rows)

        def half(strip: jax.Array, inside: jax.Array) -> jax.Array:
            """Applies the first convolution, which removes one row on either side."""
            active = jnp.where(inside, jax.nn.silu(self.norm1.normalise(strip, first)), 0)
            return self.conv1(active, rows=(0, 0))

        def gather(strip: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self.norm2.moments(half(strip, inside))

        second = join_moments(*gather_strips(gather, x, rows, halo=1))

        def whole(strip: jax.Array, inside: jax.Array) -> jax.Array:
            hidden = jax.nn.silu(self.norm2.normalise(half(strip, inside), second))
            hidden = self.conv2(jnp.where(inside[1:-1], hidden, 0), rows=(0, 0))
            return self._shortcut(strip[:, 2:-2]) + hidden

        return map_strips(whole, x, rows, halo=2)

    def _shortcut(self, x: jax.Array) -> jax.Array:
        return x if self.conv_shortcut is None else self.conv_shortcut(x)


class MiddleBlock(nnx.Module):
    """Residual block, attention, residual block, at the lowest resolution."""

    def __init__(self, channels: int, groups: int, *, rngs: Rngs, dtype: str):
        self.resnets = nnx.List(
            [ResidualBlock(channels, channels, groups, rngs=rngs, dtype=dtype) for _ in range(2)]
        )
        self.attentions = nnx.List([Attention(channels, groups, rngs=rngs, dtype=dtype)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, h, w, C) -> (B, h, w, C)."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Downsampler(nnx.Module):
    """A convolution of stride 2 with zero padding at the bottom and right edges only."""

    def __init__(self, channels: int, *, rngs: Rngs, dtype: str):
        self.conv = Conv(channels, channels, 3, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array, rows: int | None = None) -> jax.Array:
        """(B, H, W, C) -> (B, H/2, W/2, C)."""
        if rows is None:
            return self.conv(x, stride=2, rows=(0, 1), columns=(0, 1))

        def strip(strip: jax.Array, inside: jax.Array) -> jax.Array:
            del inside  # already zero beyond the image
            return self.conv(strip[:, 1:], stride=2, rows=(0, 0), columns=(0, 1))

        return map_strips(strip, x, rows, halo=1)


class Upsampler(nnx.Module):
    """Nearest-neighbour upsampling by 2, then a convolution."""

    def __init__(self, channels: int, *, rngs: Rngs, dtype: str):
        self.conv = Conv(channels, channels, 3, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array, rows: int | None = None) -> jax.Array:
        """(B, H, W, C) -> (B, 2H, 2W, C)."""
        if rows is None:
            return self.conv(_double(x))

        def strip(strip: jax.Array, inside: jax.Array) -> jax.Array:
            del inside
            return self.conv(_double(strip)[:, 1:-1], rows=(0, 0))

        return map_strips(strip, x, rows, halo=1)


def _double(x: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
