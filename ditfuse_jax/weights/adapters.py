"""Adapters in storage, alone and together with the weights under them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.lora import LEAVES, check_factors, combine_trees, merge_lora, split_lora
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.fingerprint import check_tokenizer
from ditfuse_jax.weights.checkpoint import Checkpoint, ParameterPath, ParameterReader
from ditfuse_jax.weights.hub_files import download_model
from ditfuse_jax.weights.peft import Adapter, read_adapter
from ditfuse_jax.weights.quantized import refuse_quantized
from ditfuse_jax.weights.run_paths import is_run


def open_adapter(folder: Path | str, model: ModelConfig) -> Adapter:
    """Reads an adapter: a PEFT folder, or a run that trained one, here or on the Hub.

    Raises:
      UserError: there is none, or it was made for another model.
    """
    folder = download_model(folder) if hub.is_address(folder) else as_path(folder)
    if not is_run(folder):
        return read_adapter(folder, model)
    from ditfuse_jax.weights.run import read_run_adapter

    adapter = read_run_adapter(folder)
    if adapter is None:
        raise UserError(f"{folder} holds a whole model and no adapter")
    return adapter


def check_adapter_tokenizer(
    adapter: Adapter, folder: Path | str, tokenizer: Path | str | None, vocab_size: int
) -> None:
    """Checks that an adapter was trained with the tokenizer that it will be used with.

    Args:
      adapter: the adapter.
      folder: where it is, for the message.
      tokenizer: folder of the tokenizer; None for the shipped one.
      vocab_size: rows of the model's embedding.

    Raises:
      UserError: it was trained with another one.
    """
    if adapter.tokenizer_fingerprint:
        check_tokenizer(
            tokenizer, adapter.tokenizer_fingerprint, vocab_size, f"the adapter {folder}"
        )


class InMemory(ParameterReader):
    """Parameters that were read already."""

    def __init__(self, parameters: Parameters, path: Path):
        """Creates a reader of a nested dict; `path` is where it came from."""
        self.path = path
        self._leaves = {
            tuple(key.key for key in keys): leaf
            for keys, leaf in jax.tree_util.tree_leaves_with_path(parameters)
        }

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader`."""
        return {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in self._leaves.items()}

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader`."""
        return np.asarray(self._leaves[path])[layers or slice(None)]


class Adapted(ParameterReader):
    """Weights and the adapters around them."""

    def __init__(self, base: Callable[[], Checkpoint], adapter: ParameterReader):
        """Creates a reader; `base` opens the weights when they are needed."""
        self.path = adapter.path
        self._base = functools.cache(base)
        self._adapter = adapter

    @property
    def quantized(self) -> str | None:
        """How the kernels of the weights under the adapters are stored; opens the weights."""
        return self._base().quantized

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader`."""
        return {**self._base().shapes(), **self._adapter.shapes()}

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader`."""
        reader = self._adapter if path[-1] in LEAVES else self._base()
        return reader.read_leaf(path, layers)

    def read(self, abstract: Parameters) -> Parameters:
        """See `ParameterReader`."""
        adapter, base = split_lora(abstract)
        return combine_trees(self._base().read(base), self._adapter.read(adapter))


class Merged(ParameterReader):
    """Weights with adapters merged into them while they are read, each times its weight."""

    def __init__(self, reader: ParameterReader, adapters: Sequence[tuple[Adapter, float]]):
        """Creates a reader of unquantised weights and of adapters for them."""
        self.path = reader.path
        self._reader, self._adapters = reader, adapters

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader`."""
        return self._reader.shapes()

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader`."""
        value = self._reader.read_leaf(path, layers)
        for adapter, weight in self._adapters:
            factors = adapter.leaves
            for key in path[:-1]:
                factors = factors.get(key, {})
            if path[-1] == "kernel" and LEAVES[0] in factors:
                rows = {name: x if layers is None else x[layers] for name, x in factors.items()}
                merged = merge_lora({"kernel": value}, rows, adapter.lora.scaling * weight)
                value = np.asarray(merged["kernel"])
        return value


def merge_adapters(checkpoint: Checkpoint, adapters: Sequence[tuple[Adapter, float]]) -> Checkpoint:
    """Returns the checkpoint with adapters merged into its weights, each times its weight.

    Raises:
      UserError: the weights are quantised, or lack a kernel that an adapter changes.
    """
    if not adapters:
        return checkpoint
    refuse_quantized(
        checkpoint,
        "merge the adapter into the original weights with `ditfuse convert WEIGHTS --lora ADAPTER "
        f"--quantize {checkpoint.quantized} -o MERGED`",
    )
    shapes = checkpoint.reader.shapes()
    kernels = {path[:-1]: shape for path, shape in shapes.items() if path[-1] == "kernel"}
    for adapter, _ in adapters:
        check_factors(adapter.leaves, kernels)
    return dataclasses.replace(checkpoint, reader=Merged(checkpoint.reader, adapters))


def with_adapter(
    checkpoint: Checkpoint, base: Callable[[], Checkpoint], adapter: Adapter
) -> Checkpoint:
    """Returns the checkpoint with an adapter around the weights that `base` opens."""
    reader = Adapted(base, InMemory(adapter.leaves, checkpoint.path))
    sampling = adapted_sampling(checkpoint.sampling, [adapter])
    return dataclasses.replace(checkpoint, lora=adapter.lora, reader=reader, sampling=sampling)


def open_weights_under(checkpoint: Checkpoint) -> Checkpoint:
    """Opens the weights under adapters; the returned checkpoint says how they are quantised.

    Args:
      checkpoint: with adapters or without, which is returned as it is.

    Raises:
      UserError: the weights are missing or do not fit.
    """
    if not isinstance(checkpoint.reader, Adapted):
        return checkpoint
    return dataclasses.replace(checkpoint, quantized=checkpoint.reader.quantized)


def adapted_sampling(sampling: SamplingConfig, adapters: Sequence[Adapter]) -> SamplingConfig:
    """Returns a model's sampling settings with adapters: a student's few steps come with it.

    Raises:
      UserError: two students were trained for different settings.
    """
    students = [adapter.distilled["sample"] for adapter in adapters if adapter.distilled]
    if not students:
        return sampling
    for other in students[1:]:
        for name, value in students[0].items():
            if other.get(name) != value:
                raise UserError(
                    f"two of the adapters were distilled for different sampling ({name} {value!r} "
                    f"and {other.get(name)!r}): use one of them"
                )
    return sampling.override(students[0])
