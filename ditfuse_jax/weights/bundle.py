"""A trained model as it travels: `model.safetensors`, named by the parameters' paths, and
`recipe.json`, how it was trained and is to be sampled.

The bundled models of this package are such folders.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.resources import resource
from ditfuse_jax.weights.tensors import Tensors, open_tensors

TENSORS, RECIPE = "model.safetensors", "recipe.json"

# The model that comes with the package.
SHIPPED = "small"


def find_bundle(name: Path | str) -> Path:
    """The folder of a model of the package, or the path itself if it is none."""
    path = Path(name).expanduser()
    return resource("data", SHIPPED) if str(name) == SHIPPED and not path.exists() else path


def is_bundle(folder: Path) -> bool:
    """Whether the folder holds a model of this layout."""
    return (folder / RECIPE).is_file() and (folder / TENSORS).is_file()


def open_bundle(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """Reads the recipe and opens the tensors.

    Raises:
      UserError: one of the files is damaged.
    """
    path = folder / RECIPE
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(recipe["model"], dict):
            raise ValueError("its model is no object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no recipe of a trained model ({error}): get it again") from None
    return recipe, open_tensors(folder / TENSORS)


def read_bundle(tensors: Tensors, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a model's parameters into their types and shardings.

    Args:
      tensors: of the box.
      abstract: nested dict of shapes, types and shardings.

    Raises:
      UserError: a tensor is missing, surplus or of another shape; it names the first.
    """
    flat = jax.tree_util.tree_leaves_with_path(abstract)
    names = [".".join(key.key for key in path) for path, _ in flat]
    for kind, found in (
        ("lacks", sorted(set(names) - tensors.names)),
        ("has the unknown tensor", sorted(tensors.names - set(names))),
    ):
        if found:
            raise UserError(f"{tensors.path} {kind} {found[0]}: it is not of this model")
    arrays = []
    for name, (_, like) in zip(names, flat, strict=True):
        if tensors.shape(name) != like.shape:
            raise UserError(
                f"{tensors.path}: {name} has shape {tensors.shape(name)}, the model {like.shape}"
            )
        value = tensors.read(name).astype(like.dtype)
        arrays.append(jax.make_array_from_callback(value.shape, like.sharding, value.__getitem__))
    return jax.tree.unflatten(jax.tree.structure(abstract), arrays)


def without_paths(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe that means the same on any machine: what it was trained on is left out."""
    data = dict(recipe["data"]) | {"mixture": {}, "tokenizer": ""}
    return dict(recipe) | {"data": data, "weights": "", "autoencoder": ""}
