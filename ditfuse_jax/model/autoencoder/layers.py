"""Convolution, group norm and attention of the autoencoder, for arrays (B, H, W, C)."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.logical_axes import parameter
from ditfuse_jax.model.rngs import Rngs

EPSILON = 1e-6

# Number of queries at a time: the scores of all of them take a gigabyte at 1024 pixels.
_QUERIES = 1024


class Conv(nnx.Module):
    """A convolution with bias and zero padding."""

    def __init__(self, inputs: int, outputs: int, size: int, *, rngs: Rngs, dtype: str):
        scale = 1 / math.sqrt(inputs * size * size)
        kernel = jax.random.uniform(
            rngs.params(), (size, size, inputs, outputs), minval=-scale, maxval=scale
        )
        self.kernel = parameter(kernel, None, None, None, None)
        self.bias = parameter(jnp.zeros((outputs,)), None)
        self.size, self.dtype = size, dtype

    def __call__(
        self,
        x: jax.Array,
        *,
        stride: int = 1,
        rows: tuple[int, int] | None = None,
        columns: tuple[int, int] | None = None,
    ) -> jax.Array:
        """Convolves (B, H, W, inputs).

        Args:
          x: the input.
          stride: step in both directions.
          rows: padding above and below; by default half a kernel.
          columns: padding left and right; by default half a kernel.
        """
        half = (self.size // 2, self.size // 2)
        out = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            self.kernel[...].astype(self.dtype),
            (stride, stride),
            (half if rows is None else rows, half if columns is None else columns),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return out + self.bias[...].astype(self.dtype)


class GroupNorm(nnx.Module):
    """Group norm (Wu and He 2018) in float32, with statistics that may be computed separately."""

    def __init__(self, channels: int, groups: int):
        self.scale = parameter(jnp.ones((channels,)), None)
        self.bias = parameter(jnp.zeros((channels,)), None)
        self.groups = groups

    def moments(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Computes mean and variance (B, groups) of (B, H, W, C)."""
        grouped = self._grouped(x)
        mean = jnp.mean(grouped, axis=(1, 2, 4))
        centred = grouped - mean[:, None, None, :, None]
        return mean, jnp.mean(jnp.square(centred), axis=(1, 2, 4))

    def normalise(self, x: jax.Array, moments: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Normalises (B, H, W, C) with given moments, in float32."""
        mean, variance = (m[:, None, None, :, None] for m in moments)
        out = (self._grouped(x) - mean) * jax.lax.rsqrt(variance + EPSILON)
        return out.reshape(x.shape) * self.scale[...] + self.bias[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.normalise(x, self.moments(x))

    def _grouped(self, x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32).reshape(*x.shape[:-1], self.groups, -1)


class Projection(nnx.Module):
    """A linear map of the channels with bias."""

    def __init__(self, channels: int, *, rngs: Rngs, dtype: str):
        scale = 1 / math.sqrt(channels)
        kernel = jax.random.uniform(
            rngs.params(), (channels, channels), minval=-scale, maxval=scale
        )
        self.kernel = parameter(kernel, None, None)
        self.bias = parameter(jnp.zeros((channels,)), None)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., C) -> (..., C)."""
        product = x.astype(self.dtype) @ self.kernel[...].astype(self.dtype)
        return product + self.bias[...].astype(self.dtype)


class Attention(nnx.Module):
    """Single-head self-attention over all positions, added to the input."""

    def __init__(self, channels: int, groups: int, *, rngs: Rngs, dtype: str):
        self.group_norm = GroupNorm(channels, groups)
        self.to_q, self.to_k, self.to_v, self.to_out = (
            Projection(channels, rngs=rngs, dtype=dtype) for _ in range(4)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        tokens = self.group_norm(x).reshape(batch, height * width, channels)
        q, k, v = (project(tokens) for project in (self.to_q, self.to_k, self.to_v))

        def attend(q: jax.Array) -> jax.Array:
            scores = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=jnp.float32)
            weights = jax.nn.softmax(scores / math.sqrt(channels), axis=-1)
            return jnp.einsum("bqk,bkc->bqc", weights.astype(v.dtype), v)

        length = height * width
        if length <= _QUERIES:
            out = attend(q)
        else:
            padded = jnp.pad(q, ((0, 0), (0, -length % _QUERIES), (0, 0)))
            pieces = padded.reshape(batch, -1, _QUERIES, channels).swapaxes(0, 1)
            out = jax.lax.map(attend, pieces).swapaxes(0, 1)
            out = out.reshape(batch, -1, channels)[:, :length]
        return x + self.to_out(out).reshape(x.shape)
