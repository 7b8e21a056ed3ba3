"""A trained model in storage: what it is, and its parameters, read on demand."""

import abc
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.config import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.weights.run_paths import CHECKPOINTS

# The keys that lead to a parameter in the nested dict of parameters.
ParameterPath = tuple[str, ...]

# Fields of a model's config that do not decide whether weights fit it.
FREE_FIELDS = ("preset", "max_images", *RUNTIME_FIELDS)


class ParameterReader(abc.ABC):
    """The parameters of a stored model, read on demand."""

    # File or folder, for messages.
    path: Path

    @abc.abstractmethod
    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """Returns the shapes and stored types of all parameters."""

    @abc.abstractmethod
    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """Reads one parameter; of a stack of layers only the given ones, if any are given."""

    def read(self, abstract: Parameters) -> Parameters:
        """Reads a tree of parameters into its types and shardings.

        Args:
          abstract: nested dict of shapes, types and shardings.

        Raises:
          UserError: a parameter is missing, unexpected or of another shape; the first is named.
        """
        stored = self.shapes()
        wanted = {
            tuple(key.key for key in path): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(abstract)
        }
        for problem, paths in (
            ("lacks", sorted(wanted.keys() - stored.keys())),
            ("has the unknown tensor", sorted(stored.keys() - wanted.keys())),
        ):
            if paths:
                name = ".".join(paths[0])
                raise UserError(f"{self.path} {problem} {name}: it was made for another model")
        arrays = []
        for path, leaf in wanted.items():
            if stored[path].shape != leaf.shape:
                raise UserError(
                    f"{self.path}: {'.'.join(path)} has shape {stored[path].shape}, the model "
                    f"needs {leaf.shape}"
                )
            value = self.read_leaf(path).astype(leaf.dtype)
            arrays.append(
                jax.make_array_from_callback(value.shape, leaf.sharding, value.__getitem__)
            )
        return jax.tree.unflatten(jax.tree.structure(abstract), arrays)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A trained model in storage; `open_checkpoint` returns one for anything that holds weights.

    Attributes:
      name: identifies it in metadata and reports.
      kind: its layout: `run`, `bundle`, `omnigen`, `diffusers` or `peft`.
      path: the run folder, the folder of another layout, or a file.
      model: sizes and choices of the model.
      reader: reads the parameters.
      sampling: the model's own sampling settings.
      config: the resolved config it was trained with, under current key names; None for weights
        that were not trained here.
      lora: the adapters around the model, if there are any.
      base: the weights under these adapters.
      autoencoder: folder of the autoencoder that belongs to the model, if any.
      tokenizer: folder of the tokenizer; None for the shipped one.
      tokenizer_fingerprint: of the tokenizer that the model was trained with, if it is known; see
        `prompts.fingerprint`.
      step: of a run, the step that is read.
      quantized: how the kernels of the layers are quantised, a name in
        `model.quantization.QUANTIZATIONS`, if they are; see `weights.quantized`.
    """

    name: str
    kind: str
    path: Path
    model: ModelConfig
    reader: ParameterReader
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    config: dict[str, Any] | None = None
    lora: LoRAConfig | None = None
    base: Path | None = None
    autoencoder: Path | None = None
    tokenizer: Path | None = None
    tokenizer_fingerprint: str | None = None
    step: int | None = None
    quantized: str | None = None

    @property
    def step_path(self) -> Path:
        """A path that always means this checkpoint: of a run, the folder of its step."""
        return self.path if self.step is None else self.path / CHECKPOINTS / str(self.step)

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader.shapes`."""
        return self.reader.shapes()

    def read(self, abstract: Parameters) -> Parameters:
        """See `ParameterReader.read`."""
        return self.reader.read(abstract)

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader.read_leaf`."""
        return self.reader.read_leaf(path, layers)

    def check_fits(self, model: ModelConfig, optional: Collection[str] = ()) -> None:
        """Checks that these are weights of a model; nothing is read.

        Args:
          model: the wanted model.
          optional: fields of `ModelConfig` that may be set in `model` alone.

        Raises:
          UserError: a field that decides the parameters or their use differs; it is named.
        """
        found, wanted = self.model.to_dict(), model.to_dict()
        for name in found:
            if name in FREE_FIELDS or (name in optional and wanted[name]):
                continue
            if found[name] != wanted[name]:
                raise UserError(
                    f"weights {self.path} have model.{name} {found[name]!r}, the recipe "
                    f"{wanted[name]!r}: let the recipe read them, e.g. --config omnigen_lora:FOLDER"
                )
