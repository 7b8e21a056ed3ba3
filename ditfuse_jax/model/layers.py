"""Linear layers with named axes, RMSNorm and LayerNorm."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.logical_axes import Axes, parameter
from ditfuse_jax.model.products import product
from ditfuse_jax.model.rngs import Rngs

# Standard deviation of freshly initialised embeddings (Phi-3's `initializer_range`).
INIT_STD = 0.02


class Linear(nnx.Module):
    """`x @ kernel + bias`, where inputs and outputs may have several dimensions.

    Kernels are initialised with a normal of standard deviation 1 / sqrt(inputs), which preserves
    the variance.  At OmniGen's width that is Phi-3's 0.02, which would be too small for narrow
    models.

    Args:
      inputs: shape of the contracted dimensions.
      outputs: shape of the new dimensions.
      axes: logical axis names of `(*inputs, *outputs)`.
      rngs: random numbers of the initial values.
      dtype: computation type.
      bias: whether to add a bias of shape `outputs`.
      zero: whether the kernel is initialised with zeros, as in output layers.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        axes: Axes,
        *,
        rngs: Rngs,
        dtype: str,
        bias: bool = False,
        zero: bool = False,
    ):
        shape = (*inputs, *outputs)
        std = 0.0 if zero else math.prod(inputs) ** -0.5
        draw = jax.nn.initializers.normal(std)
        self.kernel = parameter(draw(rngs.params(), shape, jnp.float32), *axes)
        self.bias = (
            parameter(jnp.zeros(tuple(outputs), jnp.float32), *axes[len(inputs) :])
            if bias
            else None
        )
        self.num_inputs = len(inputs)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., *inputs) to (..., *outputs)."""
        out = self.multiply(x)
        if self.bias is not None:
            out = out + self.bias[...].astype(self.dtype)
        return out

    def multiply(self, x: jax.Array) -> jax.Array:
        """Maps (..., *inputs) to (..., *outputs), without the bias."""
        kernel, x = self.kernel[...].astype(self.dtype), x.astype(self.dtype)
        return product(x, kernel, self.num_inputs)


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019), computed in float32."""

    def __init__(self, size: int, *, eps: float, dtype: str):
        self.scale = parameter(jnp.ones((size,), jnp.float32), "norm")
        self.eps = eps
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last dimension of (..., D)."""
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.eps)
        return (x * self.scale[...]).astype(self.dtype)


def layer_norm(x: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Applies LayerNorm without affine parameters to the last dimension of (..., D), in float32."""
    x = x.astype(jnp.float32)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
