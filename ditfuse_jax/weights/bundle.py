"""A trained model in two files: `model.safetensors`, whose tensors are named by the parameters'
paths, and `recipe.json`, the config it was trained with and its sampling settings.

The models that come with this package are such folders.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditfuse_jax.config_names import with_current_names
from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_available_extensions
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.heads import HEADS, is_of_this_package
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.resources import resource
from ditfuse_jax.weights.checkpoint import Checkpoint, ParameterPath, ParameterReader
from ditfuse_jax.weights.quantized import QUANTIZED
from ditfuse_jax.weights.tensors import Tensors, open_tensors

TENSORS, RECIPE = "model.safetensors", "recipe.json"

# The model that comes with the package.
SHIPPED = "small"


def find_bundle(name: Path | str) -> Path:
    """Returns the folder of a model of this package, and any other path as it is."""
    path = as_path(name)
    return resource("data", SHIPPED) if str(name) == SHIPPED and not path.exists() else path


def is_bundle(folder: Path) -> bool:
    """Returns whether the folder holds a model of this layout."""
    return (folder / RECIPE).is_file() and (folder / TENSORS).is_file()


class BundleReader(ParameterReader):
    """The parameters of a bundle."""

    def __init__(self, tensors: Tensors):
        """Creates a reader of opened tensors."""
        self.path = tensors.path
        self._tensors = tensors

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader`."""
        return {
            tuple(name.split(".")): jax.ShapeDtypeStruct(
                self._tensors.shape(name), self._tensors.dtype(name)
            )
            for name in self._tensors.names
        }

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader`."""
        return self._tensors.read(".".join(path), layers)


def open_bundle(folder: Path) -> Checkpoint:
    """Opens a bundle; no parameter is read yet.

    Raises:
      UserError: one of the files is damaged, or the model needs an extension.
    """
    path = folder / RECIPE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config["model"], dict):
            raise ValueError("its model is not an object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the recipe of a trained model ({error}): get it again"
        ) from None
    config = with_current_names(config)
    load_available_extensions(config.get("imports", ()))
    head = config["model"].get("head")
    if head is not None and not is_of_this_package(head) and head not in HEADS:
        # The file that defines it is not in the bundle, see `without_paths`.
        raise UserError(
            f"{path}: head {head!r} is unknown: name the extension that defines it with --import "
            "FILE_OR_MODULE"
        )
    return Checkpoint(
        name=folder.name,
        kind="bundle",
        path=folder,
        model=ModelConfig.from_dict(config["model"]),
        reader=BundleReader(open_tensors(folder / TENSORS)),
        sampling=SamplingConfig.from_dict(config.get("sample", {})),
        config=config,
        tokenizer_fingerprint=config.get(FINGERPRINT),
        quantized=config.get(QUANTIZED),
    )


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config without the paths of the machine it was trained on.

    These are the paths of data, weights and extensions; extensions that are modules stay.
    """
    data = dict(config["data"]) | {"mixture": {}, "tokenizer": ""}
    modules = [name for name in config.get("imports", ()) if not name.endswith(".py")]
    return dict(config) | {"imports": modules, "data": data, "weights": "", "autoencoder": ""}
