"""Kernels in 8 or 4 bits: how they are stored, and how they are multiplied.

The kernels of the transformer's layers, 96 % of OmniGen's parameters, are quantised; everything
else stays as it is.  `quantized_layers.QuantizedLinear` multiplies by a quantised kernel, which is
brought back to the computation type one layer at a time.

A scheme quantises matrices (..., I, O) of I inputs and O outputs.  `QUANTIZED_LAYERS` tells how a
kernel (*inputs, *outputs) becomes one.  The two arrays of a quantised matrix are sharded like the
kernel.  Their last dimensions are long, because TPUs pad short ones.

Other modules add a scheme with `QUANTIZATIONS.register(name)`.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.logical_axes import Axes
from ditfuse_jax.model.products import product
from ditfuse_jax.registry import Registry


@dataclasses.dataclass(frozen=True)
class MatrixShape:
    """How a kernel (*inputs, *outputs) is arranged as matrices.

    The first output dimensions, if they are not sharded, come first (*groups, I, O); I and O are
    the other dimensions, joined.

    Attributes:
      inputs: number of input dimensions.
      groups: number of output dimensions that come first.
    """

    inputs: int = 1
    groups: int = 0

    def matrices(self, kernels: jax.Array) -> jax.Array:
        """Arranges the kernels of all layers: (L, *inputs, *outputs) -> (L, *groups, I, O)."""
        first, end = 1 + self.inputs, 1 + self.inputs + self.groups
        layers, inputs = kernels.shape[0], math.prod(kernels.shape[1:first])
        groups, outputs = kernels.shape[first:end], math.prod(kernels.shape[end:])
        return jnp.moveaxis(kernels.reshape(layers, inputs, *groups, outputs), 1, -2)

    def axes(self, axes: Axes) -> Axes:
        """Returns the logical axes of (*groups, I, O) from those of (*inputs, *outputs)."""
        first, end = self.inputs, self.inputs + self.groups
        return (*axes[first:end], axes[0], axes[end])


_LAYERS = ("transformer", "layers")
# Path of each quantised linear layer -> arrangement of its kernel.
QUANTIZED_LAYERS: Mapping[tuple[str, ...], MatrixShape] = {
    (*_LAYERS, "self_attn", "qkv_proj"): MatrixShape(),
    (*_LAYERS, "self_attn", "o_proj"): MatrixShape(inputs=2),
    (*_LAYERS, "mlp", "gate_up_proj"): MatrixShape(groups=1),
    (*_LAYERS, "mlp", "down_proj"): MatrixShape(),
}

# Names of the parameters of a quantised layer, in the order of `QuantizedMatrix`.
LEAVES = ("codes", "scales")


class QuantizedMatrix(NamedTuple):
    """A matrix in few bits: integers, and floating-point factors."""

    codes: jax.Array
    scales: jax.Array


class Quantization(abc.ABC):
    """A scheme of quantisation."""

    @abc.abstractmethod
    def quantize(self, matrix: jax.Array) -> QuantizedMatrix:
        """Quantises a matrix (..., I, O)."""

    @abc.abstractmethod
    def dequantize(self, quantized: QuantizedMatrix) -> jax.Array:
        """Returns the float32 matrix (..., I, O) that the quantised one stands for."""

    @abc.abstractmethod
    def axes(self, axes: Axes) -> tuple[Axes, Axes]:
        """Returns the logical axes of codes and scales from those of (..., I, O)."""

    def multiply(self, x: jax.Array, quantized: QuantizedMatrix) -> jax.Array:
        """Maps (..., I) by (*groups, I, O) to (..., *groups, O), in the type of x."""
        matrix = self.dequantize(quantized).astype(x.dtype)
        return product(x, jnp.moveaxis(matrix, -2, 0), 1)


class Int8(Quantization):
    """One scale per output: codes are `round(127 * matrix / max |matrix|)` over the inputs.

    Codes int8 (..., I, O), scales float32 (..., O).
    """

    def quantize(self, matrix: jax.Array) -> QuantizedMatrix:
        """See `Quantization`."""
        matrix = matrix.astype(jnp.float32)
        scales = jnp.max(jnp.abs(matrix), axis=-2) / 127
        codes = jnp.round(matrix / jnp.where(scales == 0, 1, scales)[..., None, :])
        return QuantizedMatrix(codes.astype(jnp.int8), scales)

    def dequantize(self, quantized: QuantizedMatrix) -> jax.Array:
        """See `Quantization`."""
        return quantized.codes.astype(jnp.float32) * quantized.scales[..., None, :]

    def axes(self, axes: Axes) -> tuple[Axes, Axes]:
        """See `Quantization`."""
        return axes, (*axes[:-2], axes[-1])

    def multiply(self, x: jax.Array, quantized: QuantizedMatrix) -> jax.Array:
        """See `Quantization`; the codes are exact in bfloat16, so the scales come afterwards."""
        out = product(x, jnp.moveaxis(quantized.codes.astype(x.dtype), -2, 0), 1)
        return (out * quantized.scales).astype(x.dtype)


class NormalFloat4(Quantization):
    """4-bit NormalFloat (Dettmers et al. 2023, QLoRA, appendix E), two codes per byte.

    A block has one scale, its largest absolute value.  It consists of up to 64 neighbouring inputs
    of one output.  Blocks are equal: their size b is the largest even divisor of I up to 64.  The
    first half of a block is in the low bits, the second half in the high bits.

    Codes uint8 (..., I / b, b / 2, O), scales bfloat16 (..., I / b, O).
    """

    # The quantiles of a normal distribution, with an exact zero, in units of the scale.
    VALUES = (
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    )
    LARGEST_BLOCK = 64

    def quantize(self, matrix: jax.Array) -> QuantizedMatrix:
        """See `Quantization`.

        Raises:
          UserError: the number of inputs is odd.
        """
        *leading, inputs, outputs = matrix.shape
        block = _block_size(inputs, self.LARGEST_BLOCK)
        blocks = matrix.astype(jnp.float32).reshape(*leading, -1, block, outputs)
        scales = jnp.max(jnp.abs(blocks), axis=-2).astype(jnp.bfloat16)
        wide = scales.astype(jnp.float32)[..., None, :]
        blocks = blocks / jnp.where(wide == 0, 1, wide)
        middles = [(a + b) / 2 for a, b in zip(self.VALUES, self.VALUES[1:], strict=False)]
        codes = jnp.zeros(blocks.shape, jnp.uint8)
        for middle in middles:
            codes += (blocks > middle).astype(jnp.uint8)
        low, high = jnp.split(codes, 2, axis=-2)
        return QuantizedMatrix(low | (high << 4), scales)

    def dequantize(self, quantized: QuantizedMatrix) -> jax.Array:
        """See `Quantization`."""
        codes, scales = quantized
        codes = jnp.concatenate([codes & 15, codes >> 4], axis=-2)
        blocks = _lookup(codes, self.VALUES) * scales.astype(jnp.float32)[..., None, :]
        *leading, count, block, outputs = blocks.shape
        return blocks.reshape(*leading, count * block, outputs)

    def axes(self, axes: Axes) -> tuple[Axes, Axes]:
        """See `Quantization`."""
        *groups, inputs, outputs = axes
        return (*groups, inputs, None, outputs), axes


QUANTIZATIONS: Registry[Quantization] = Registry(
    "quantization", {"int8": Int8(), "nf4": NormalFloat4()}
)


def quantize_layers(kernels: jax.Array, name: str, shape: MatrixShape) -> QuantizedMatrix:
    """Quantises the kernels of all layers, (L, *inputs, *outputs).

    Raises:
      UserError: the scheme is unknown, or cannot hold kernels of this shape.
    """
    return QUANTIZATIONS.find(name).quantize(shape.matrices(kernels))


def quantized_shapes(
    kernels: jax.ShapeDtypeStruct, name: str, shape: MatrixShape
) -> Sequence[jax.ShapeDtypeStruct]:
    """Returns the shapes and types of codes and scales; see `quantize_layers`."""
    return jax.eval_shape(lambda kernels: quantize_layers(kernels, name, shape), kernels)


def _block_size(size: int, largest: int) -> int:
    """Returns the largest even divisor of a dimension up to `largest`."""
    for block in range(largest, 1, -2):
        if size % block == 0:
            return block
    raise UserError(
        f"nf4 stores pairs of weights: {size} inputs have no even divisor up to {largest}; use int8"
    )


def _lookup(codes: jax.Array, values: tuple[float, ...]) -> jax.Array:
    """Returns the float32 values at codes below `len(values)`, a power of two.

    By comparisons of bits, which XLA fuses on every device; TPUs have no fast gather.
    """
    level = [jnp.float32(value) for value in values]
    bit = 1
    while len(level) > 1:
        is_set = (codes & bit) != 0
        level = [jnp.where(is_set, b, a) for a, b in zip(level[::2], level[1::2], strict=True)]
        bit <<= 1
    return level[0]
