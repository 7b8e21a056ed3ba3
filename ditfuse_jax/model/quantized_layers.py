"""Linear layers with quantised kernels; see `quantization`."""

import functools
import math

import jax
from flax import nnx

from ditfuse_jax.model.ditfuse import DiTFuse
from ditfuse_jax.model.layers import Linear
from ditfuse_jax.model.lora_layers import LoRALinear
from ditfuse_jax.model.quantization import (
    QUANTIZATIONS,
    QUANTIZED_LAYERS,
    MatrixShape,
    QuantizedMatrix,
    quantize_layers,
)


class QuantizedLinear(Linear):
    """A linear layer of a stack of layers whose kernel is quantised.

    It has the parameters `codes` and `scales` in place of `kernel`.
    """

    def __init__(self, base: Linear, name: str, shape: MatrixShape):
        """Quantises the kernels of a stack of layers.

        Args:
          base: with kernels (L, *inputs, *outputs).
          name: a name in `QUANTIZATIONS`.
          shape: how the kernels become matrices.
        """
        self.bias, self.num_inputs, self.dtype = base.bias, base.num_inputs, base.dtype
        self.scheme = name
        self.outputs = base.kernel.shape[1 + base.num_inputs :]
        matrices = quantize_layers(base.kernel[...], name, shape)
        axes = shape.axes(base.kernel.get_metadata("axes"))
        of_codes, of_scales = QUANTIZATIONS.find(name).axes(axes)
        self.codes = nnx.Param(matrices.codes, axes=of_codes)
        self.scales = nnx.Param(matrices.scales, axes=of_scales)

    def multiply(self, x: jax.Array) -> jax.Array:
        """See `Linear`."""
        rows, inputs = x.shape[: -self.num_inputs], math.prod(x.shape[-self.num_inputs :])
        x = x.reshape(*rows, inputs).astype(self.dtype)
        # The backward pass needs the matrix in the computation type, which would otherwise be saved
        # for all layers at once.
        multiply = jax.checkpoint(QUANTIZATIONS.find(self.scheme).multiply)
        out = multiply(x, QuantizedMatrix(self.codes[...], self.scales[...]))
        return out.reshape(*rows, *self.outputs)


class QuantizedLoRALinear(LoRALinear, QuantizedLinear):
    """An adapter around a quantised kernel (QLoRA, Dettmers et al. 2023)."""

    def __init__(self, base: LoRALinear, name: str, shape: MatrixShape):
        """Quantises the kernels; see `QuantizedLinear`."""
        QuantizedLinear.__init__(self, base, name, shape)
        self.lora_a, self.lora_b, self.scaling = base.lora_a, base.lora_b, base.scaling


def quantize_model(model: DiTFuse, name: str) -> None:
    """Quantises the kernels of `QUANTIZED_LAYERS` in place, and the cache of sampling with them.

    Raises:
      UserError: the scheme is unknown, or cannot hold a kernel of this shape.
    """
    for (*parents, last), shape in QUANTIZED_LAYERS.items():
        owner = functools.reduce(getattr, parents, model)
        base = getattr(owner, last)
        kind = QuantizedLoRALinear if isinstance(base, LoRALinear) else QuantizedLinear
        setattr(owner, last, kind(base, name, shape))
    model.transformer.quantized = name
