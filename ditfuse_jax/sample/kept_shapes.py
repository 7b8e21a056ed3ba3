"""The shapes of a model's parameters, kept on disk beside its compiled programs.

They come from the model's structure, which a command whose programs are kept does not need for
anything else; see `sample/structure.py`.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.parallel.abstract import abstract_model
from ditfuse_jax.xla.kept_programs import key_of, programs_folder


def frozen_shapes(
    model: ModelConfig, partitioner: Partitioner, quantize: str | None = None
) -> Parameters:
    """Returns `abstract_model` of a frozen model for a mesh of one device."""
    folder = programs_folder()
    if folder is None:
        return abstract_model(model, partitioner, frozen=True, quantize=quantize)
    path = folder / f"{key_of('shapes', model, quantize)}.json"
    replicated = jax.NamedSharding(partitioner.mesh, jax.P())

    def leaf(shape: list[int], dtype: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype), sharding=replicated)

    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return _nested({tuple(name.split("/")): leaf(*kept[name]) for name in kept})
    except (OSError, ValueError, TypeError, AttributeError):  # none, or a damaged one
        shapes = abstract_model(model, partitioner, frozen=True, quantize=quantize)
    from flax import traverse_util

    flat: dict[Any, Any] = traverse_util.flatten_dict(shapes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(
            path, json.dumps({"/".join(name): [x.shape, x.dtype.name] for name, x in flat.items()})
        )
    except (OSError, UserError):  # a full disk: nothing is kept
        pass
    return shapes


def _nested(leaves: dict[tuple[str, ...], Any]) -> Parameters:
    nested: Parameters = {}
    for (*parents, last), leaf in leaves.items():
        node = nested
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = leaf
    return nested
