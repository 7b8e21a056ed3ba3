"""Weights of any kind, one parameter at a time: what conversion reads.

Nothing is held but the parameter asked for, so a model of any size passes through little memory.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.lora import merge_lora
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.train.base import carried, open_adapter
from ditfuse_jax.train.checkpoint import (
    FOLDER,
    LORA,
    PARAMETERS,
    Checkpoints,
    find_checkpoint,
    is_run,
)
from ditfuse_jax.weights import open_omnigen
from ditfuse_jax.weights.maps import leaves

# The path of a parameter in the nested dict.
Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Attributes:
    model: their shape.
    abstract: path -> shape and type, of all parameters.
    read: path -> the parameter.
    autoencoder: folder of the autoencoder that belongs to them, if any.
    tokenizer: folder of the tokenizer, if it is not the shipped one.
    recipe: what a run was trained with, or None.
    """

    model: ModelConfig
    abstract: Mapping[Names, jax.ShapeDtypeStruct]
    read: Callable[[Names], np.ndarray]
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
    opened = open_omnigen(folder)
    table = leaves(opened.config)
    return Weights(
        opened.config,
        {
            path: jax.ShapeDtypeStruct(leaf.shape, opened.tensors.dtype(leaf.tensors[0].name))
            for path, leaf in table.items()
        },
        lambda path: table[path].read(opened.tensors),
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
        read=lambda path: weights.read(path).astype(kind, copy=False),
    )


def merge(weights: Weights, adapters: Sequence[WeightedAdapter]) -> Weights:
    """The weights with adapters merged into them, each with its share.

    Raises:
      UserError: an adapter is missing or was made for another model.
    """
    opened = [
        (*open_adapter(adapter.folder, weights.model), adapter.weight) for adapter in adapters
    ]

    def read(path: Names) -> np.ndarray:
        value = weights.read(path)
        for lora, adapter, weight in opened:
            factors = adapter
            for key in path[:-1]:
                factors = factors.get(key, {})
            if path[-1] == "kernel" and "lora_a" in factors:
                one = merge_lora({"kernel": value}, factors, lora.scaling * weight)
                value = np.asarray(one["kernel"])
        return value

    return dataclasses.replace(weights, read=read)


def _open_run(folder: Path) -> Weights:
    run, step = find_checkpoint(folder)
    checkpoints = Checkpoints(run, read_only=True)
    try:
        config = carried(run, checkpoints.config(step))
        if checkpoints.has(step, LORA):
            raise UserError(
                f"{folder} holds an adapter, not weights: convert it with `--to peft`, or merge it "
                f"with `ditfuse convert {config['weights']} --lora {folder} -o OUTPUT`"
            )
        item = "ema" if checkpoints.has(step, "ema") else PARAMETERS
        abstract = checkpoints.abstract(step, item)
    finally:
        checkpoints.close()
    model = ModelConfig.from_dict(config["model"])
    stored = run / FOLDER / str(step) / item
    autoencoder, tokenizer = config["autoencoder"], config["data"]["tokenizer"]
    return Weights(
        model,
        abstract,
        lambda path: _read_stored(stored, path),
        Path(autoencoder) if autoencoder else None,
        Path(tokenizer) if tokenizer else None,
        config,
    )


def _read_stored(item: Path, path: Names) -> np.ndarray:
    wanted: Any = jax.ShapeDtypeStruct((), np.float32)  # a place; shape and type are the stored
    how: Any = ocp.RestoreArgs(restore_type=np.ndarray)
    for key in reversed(path):
        wanted, how = {key: wanted}, {key: how}
    arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=how, partial_restore=True)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            value = checkpointer.restore(item.absolute(), args=arguments)
    except Exception as error:  # orbax and tensorstore raise nearly any type on damaged files
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"cannot read {'.'.join(path)} in {item}: {reason}") from error
    for key in path:
        value = value[key]
    return np.asarray(value)
