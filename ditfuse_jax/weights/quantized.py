"""Stored models whose kernels are quantised while they are read, or were before they were written.

A model that was written with quantised kernels says so in its config under `QUANTIZED`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.quantization import (
    LEAVES,
    QUANTIZATIONS,
    QUANTIZED_LAYERS,
    MatrixShape,
    QuantizedMatrix,
    quantize_layers,
    quantized_shapes,
)
from ditfuse_jax.weights.checkpoint import Checkpoint, ParameterPath, ParameterReader

# Key of a stored config: the name of the scheme of the stored kernels.
QUANTIZED = "quantized"


class Quantizing(ParameterReader):
    """Parameters whose kernels are quantised while they are read, one layer at a time."""

    def __init__(self, reader: ParameterReader, name: str):
        """Creates a reader of unquantised parameters; `name` is one of `QUANTIZATIONS`."""
        self.path = reader.path
        self._reader, self._name = reader, name
        # Codes and scales of a kernel are read one after the other.
        self._kept: tuple[tuple[ParameterPath, slice | None], dict[str, np.ndarray]] | None = None

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader`."""
        shapes: dict[ParameterPath, jax.ShapeDtypeStruct] = {}
        for path, leaf in self._reader.shapes().items():
            *layer, last = path
            if last == "kernel" and tuple(layer) in QUANTIZED_LAYERS:
                parts = quantized_shapes(leaf, self._name, QUANTIZED_LAYERS[tuple(layer)])
                shapes |= {(*layer, part): x for part, x in zip(LEAVES, parts, strict=True)}
            else:
                shapes[path] = leaf
        return shapes

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader`."""
        *layer, last = path
        if last not in LEAVES or tuple(layer) not in QUANTIZED_LAYERS:
            return self._reader.read_leaf(path, layers)
        key = tuple(layer), layers
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._read_kernel(*key)
        return self._kept[1][last]

    def _read_kernel(self, layer: ParameterPath, layers: slice | None) -> dict[str, np.ndarray]:
        path = (*layer, "kernel")
        count = self._reader.shapes()[path].shape[0]
        parts = []
        for index in range(count)[layers or slice(None)]:
            kernel = self._reader.read_leaf(path, slice(index, index + 1))
            quantize = _jitted(self._name, QUANTIZED_LAYERS[layer])
            parts.append(jax.device_get(quantize(kernel)))
        return {name: np.concatenate([getattr(x, name) for x in parts]) for name in LEAVES}


@functools.cache
def _jitted(name: str, shape: MatrixShape) -> Callable[[np.ndarray], QuantizedMatrix]:
    return jax.jit(functools.partial(quantize_layers, name=name, shape=shape))


def quantize_checkpoint(checkpoint: Checkpoint, name: str | None) -> Checkpoint:
    """Returns a checkpoint with quantised kernels.

    Args:
      checkpoint: quantised or not.
      name: a name in `QUANTIZATIONS`, or None to leave it as it is.

    Raises:
      UserError: the name is unknown, or the kernels are stored quantised in another way.
    """
    if name is None or name == checkpoint.quantized:
        return checkpoint
    QUANTIZATIONS.find(name)
    refuse_quantized(checkpoint, f"quantise the original weights as {name}")
    reader = Quantizing(checkpoint.reader, name)
    return dataclasses.replace(checkpoint, reader=reader, quantized=name)


def num_parameters(checkpoint: Checkpoint) -> int:
    """Returns the number of parameters; of a quantised kernel, of those that it stands for."""
    shapes = dict(checkpoint.shapes())
    count = 0
    if checkpoint.quantized:
        dequantize = QUANTIZATIONS.find(checkpoint.quantized).dequantize
        for layer in QUANTIZED_LAYERS:
            codes, scales = (shapes.pop((*layer, part)) for part in LEAVES)
            count += jax.eval_shape(lambda *x: dequantize(QuantizedMatrix(*x)), codes, scales).size
    return count + sum(shape.size for shape in shapes.values())


def refuse_quantized(checkpoint: Checkpoint, instead: str) -> None:
    """Raises a UserError if the kernels are quantised; `instead` is what to do."""
    if checkpoint.quantized:
        raise UserError(
            f"{checkpoint.base or checkpoint.path} holds kernels quantised as "
            f"{checkpoint.quantized}, which cannot be changed any more: {instead}"
        )
