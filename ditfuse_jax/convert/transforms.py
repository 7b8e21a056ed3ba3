"""Changes of a checkpoint that are applied while its parameters are read, one at a time."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.weights import Checkpoint, ParameterReader, open_adapter
from ditfuse_jax.weights.adapters import (
    adapted_sampling,
    check_adapter_tokenizer,
    merge_adapters,
)
from ditfuse_jax.weights.checkpoint import ParameterPath


class _Cast(ParameterReader):
    """Parameters in another type."""

    def __init__(self, reader: ParameterReader, dtype: str):
        self.path = reader.path
        self._reader, self._dtype = reader, jax.numpy.dtype(dtype)

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        return {
            path: jax.ShapeDtypeStruct(x.shape, self._dtype)
            for path, x in self._reader.shapes().items()
        }

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        return self._reader.read_leaf(path, layers).astype(self._dtype, copy=False)


def cast(checkpoint: Checkpoint, dtype: str | None) -> Checkpoint:
    """Returns the checkpoint with parameters in another type; None leaves them as they are."""
    if dtype is None:
        return checkpoint
    return dataclasses.replace(checkpoint, reader=_Cast(checkpoint.reader, dtype))


def merge(checkpoint: Checkpoint, adapters: Sequence[WeightedAdapter]) -> Checkpoint:
    """Returns the checkpoint with adapters merged into it, each times its weight.

    Raises:
      UserError: an adapter is missing, or was made for another model or tokenizer.
    """
    if not adapters:
        return checkpoint
    opened = [
        (open_adapter(adapter.folder, checkpoint.model), adapter.weight) for adapter in adapters
    ]
    for (found, _), adapter in zip(opened, adapters, strict=True):
        check_adapter_tokenizer(
            found, adapter.folder, checkpoint.tokenizer, checkpoint.model.vocab_size
        )
    merged = merge_adapters(checkpoint, opened)
    sampling = adapted_sampling(checkpoint.sampling, [found for found, _ in opened])
    return dataclasses.replace(merged, sampling=sampling)
