"""Weights of any kind, one parameter at a time: what conversion reads.

Nothing is held but the parameter asked for, so a model of any size passes through little memory.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditfuse_jax import compat
from ditfuse_jax.errors import UserError
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.lora import merge_lora
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.train.base import carried, open_adapter
from ditfuse_jax.weights import open_omnigen
from ditfuse_jax.weights.bundle import find_bundle, is_bundle
from ditfuse_jax.weights.maps import leaves
from ditfuse_jax.weights.run_paths import CHECKPOINTS, LORA, PARAMETERS, find_checkpoint, is_run
from ditfuse_jax.weights.run_reader import RunReader

# The path of a parameter in the nested dict.
Names = tuple[str, ...]
Read = Callable[[Names, slice | None], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Attributes:
    model: their shape.
    abstract: path -> shape and type, of all parameters.
    read: path and layers -> the parameter; of stacked layers only those asked for, if any are.
    autoencoder: folder of the autoencoder that belongs to them, if any.
    tokenizer: folder of the tokenizer, if it is not the shipped one.
    recipe: what a run was trained with, or None.
    """

    model: ModelConfig
    abstract: Mapping[Names, jax.ShapeDtypeStruct]
    read: Read
    autoencoder: Path | None
    tokenizer: Path | None
    recipe: dict[str, Any] | None = None


def open_weights(folder: Path) -> Weights:
    """Opens a run folder, or a folder or file in OmniGen's or diffusers' layout.

    Raises:
      UserError: there are no weights, or tensors are missing, surplus or of another shape.
    """
    folder = Path(folder).expanduser()
    if is_run(folder):
        return _open_run(folder)
    if is_bundle(find_bundle(folder)):
        raise UserError(f"{folder} is ready to use and is not converted; name a run or OmniGen's")
    opened = open_omnigen(folder)
    table = leaves(opened.config)
    return Weights(
        opened.config,
        {
            path: jax.ShapeDtypeStruct(leaf.shape, opened.tensors.dtype(leaf.tensors[0].name))
            for path, leaf in table.items()
        },
        lambda path, layers: table[path].read(
            opened.tensors,
            layers and (layers, *(slice(None) for _ in table[path].shape[1:])),
        ),
        opened.autoencoder,
        opened.tokenizer,
    )


def cast(weights: Weights, dtype: str | None) -> Weights:
    """The weights in another type; None leaves them as they are."""
    if dtype is None:
        return weights
    kind = jax.numpy.dtype(dtype)
    return dataclasses.replace(
        weights,
        abstract={
            path: jax.ShapeDtypeStruct(x.shape, kind) for path, x in weights.abstract.items()
        },
        read=lambda path, layers: weights.read(path, layers).astype(kind, copy=False),
    )


def merge(weights: Weights, adapters: Sequence[WeightedAdapter]) -> Weights:
    """The weights with adapters merged into them, each with its share.

    Raises:
      UserError: an adapter is missing or was made for another model.
    """
    opened = [
        (*open_adapter(adapter.folder, weights.model), adapter.weight) for adapter in adapters
    ]

    def read(path: Names, layers: slice | None) -> np.ndarray:
        value = weights.read(path, layers)
        for lora, adapter, weight in opened:
            factors = adapter
            for key in path[:-1]:
                factors = factors.get(key, {})
            if path[-1] == "kernel" and "lora_a" in factors:
                cut = {name: x if layers is None else x[layers] for name, x in factors.items()}
                one = merge_lora({"kernel": value}, cut, lora.scaling * weight)
                value = np.asarray(one["kernel"])
        return value

    return dataclasses.replace(weights, read=read)


def _open_run(folder: Path) -> Weights:
    run, step = find_checkpoint(folder)
    checkpoints = RunReader(run)
    try:
        config = carried(run, checkpoints.config(step))
        if checkpoints.has(step, LORA):
            raise UserError(
                f"{folder} holds an adapter, not weights: convert it with `--to peft`, or merge it "
                f"with `ditfuse convert {config['weights']} --lora {folder} -o OUTPUT`"
            )
        item = "ema" if checkpoints.has(step, "ema") else PARAMETERS
        abstract = checkpoints.shapes(step, item)
    finally:
        checkpoints.close()
    model = ModelConfig.from_dict(config["model"])
    stored = run / CHECKPOINTS / str(step) / item
    autoencoder, tokenizer = config["autoencoder"], config["data"]["tokenizer"]
    return Weights(
        model,
        abstract,
        lambda path, layers: _read_stored(stored, path, layers),
        Path(autoencoder) if autoencoder else None,
        Path(tokenizer) if tokenizer else None,
        config,
    )


def _read_stored(item: Path, path: Names, layers: slice | None) -> np.ndarray:
    """Reads one array of an orbax item, or some of its rows."""
    try:
        array = compat.open_orbax_array(item, path)
        return np.asarray(array[layers or slice(None)].read().result())
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"cannot read {'.'.join(path)} in {item}: {reason}") from error
