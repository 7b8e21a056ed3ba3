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

from ditfuse_jax import hub
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
    try:
        model = ModelConfig.from_dict(config["model"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Checkpoint(
        name=folder.name,
        kind="bundle",
        path=folder,
        model=model,
        reader=BundleReader(open_tensors(folder / TENSORS)),
        sampling=SamplingConfig.from_dict(config.get("sample", {})),
        config=config,
        tokenizer_fingerprint=config.get(FINGERPRINT),
        quantized=config.get(QUANTIZED),
    )


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config without the paths of the machine it was trained on.

    These are the data, its cache, extensions that are files, and every text with a slash in
    another setting than those of sampling.  What means the same elsewhere stays: addresses on the
    Hub, names like `small` and `samples:heldout`, and extensions that are modules.
    """
    modules = [name for name in config.get("imports", ()) if not name.endswith(".py")]
    found = _portable(config)
    return found | {"imports": modules, "data": found["data"] | {"mixture": {}, "cache": ""}}


def _portable(value: Any) -> Any:
    """Returns a value with an empty text in place of each that is the path of a folder or file."""
    match value:
        case Mapping():  # prompts may have a slash
            return {k: item if k == "sample" else _portable(item) for k, item in value.items()}
        case list() | tuple():
            return type(value)(_portable(item) for item in value)
        case str() if not hub.is_address(value) and ("/" in value or "\\" in value):
            return ""
    return value
