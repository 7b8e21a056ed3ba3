"""Checkpoints of runs of `ditfuse train`."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_available_extensions
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.flow.distillation import STUDENT_SETTINGS
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.paths import model_path
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.weights.adapters import Adapted
from ditfuse_jax.weights.bundle import find_bundle
from ditfuse_jax.weights.checkpoint import Checkpoint, ParameterPath, ParameterReader
from ditfuse_jax.weights.peft import Adapter
from ditfuse_jax.weights.quantized import QUANTIZED
from ditfuse_jax.weights.run_paths import CHECKPOINTS, find_checkpoint
from ditfuse_jax.weights.run_reader import RunReader, read_stored

# Subfolders of a run of converted weights: the autoencoder and the tokenizer that belong to them.
AUTOENCODER, TOKENIZER = "autoencoder", "tokenizer"


class RunParameters(ParameterReader):
    """The parameters of one step of a run: the averaged ones if the run kept them."""

    def __init__(self, run: Path, step: int, item: str):
        """Creates a reader of an item; see `run_reader`."""
        self.path = run / CHECKPOINTS / str(step)
        self._run, self._step, self._item = run, step, item

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader`."""
        with RunReader(self._run) as reader:
            return reader.shapes(self._step, self._item)

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader`."""
        return read_stored(self.path / self._item, path, layers)

    def read(self, abstract: Parameters) -> Parameters:
        """See `ParameterReader`."""
        with RunReader(self._run) as reader:
            return reader.read_arrays(self._step, {self._item: abstract})[self._item]


def open_run(
    path: Path,
    open_weights: Callable[[Path | str], Checkpoint],
    base: Path | str | None = None,
) -> Checkpoint:
    """Opens a checkpoint of a run; no parameter is read yet.

    Args:
      path: see `find_checkpoint`.
      open_weights: opens the weights under adapters.
      base: where these are; by default where they were during training.

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    run, step = find_checkpoint(path)
    with RunReader(run) as reader:
        config = _with_own_folders(run, reader.config(step))
        parameters = RunParameters(run, step, reader.model_item(step))
    load_available_extensions(config.get("imports", ()))
    opened_base = open_weights(base) if base is not None else None
    if opened_base is not None:
        config = _with_base(config, opened_base)
    try:
        checkpoint = Checkpoint(
            name=f"{run.name}, step {step}",
            kind="run",
            path=run,
            model=ModelConfig.from_dict(config["model"]),
            reader=parameters,
            sampling=SamplingConfig.from_dict(config.get("sample", {})),
            config=config,
            autoencoder=_folder(config["autoencoder"]),
            tokenizer=_folder(config["data"]["tokenizer"]),
            tokenizer_fingerprint=config.get(FINGERPRINT),
            step=step,
            quantized=config.get(QUANTIZED),
        )
        lora = lora_config(config)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"the config of {parameters.path} is incomplete ({error!r}): the checkpoint cannot be "
            "used"
        ) from error
    if lora is None:
        return checkpoint

    def open_base() -> Checkpoint:
        weights = opened_base
        if weights is None:
            path = config["weights"]
            if not hub.is_address(path) and not find_bundle(path).exists():
                raise UserError(
                    f"{run} adapts the weights in {path}, which do not exist any more: give "
                    "their folder with --base"
                )
            weights = open_weights(path)
        weights.check_fits(checkpoint.model)
        return weights

    return dataclasses.replace(
        checkpoint,
        lora=lora,
        base=model_path(config["weights"]),
        reader=Adapted(open_base, parameters),
    )


def read_run_adapter(path: Path) -> Adapter | None:
    """Reads the adapter that a run trained; None if it trained a whole model.

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    run, step = find_checkpoint(path)
    with RunReader(run) as reader:
        config = reader.config(step)
        lora = lora_config(config)
        if lora is None:
            return None
        parameters = RunParameters(run, step, reader.model_item(step))
        shapes = reader.shapes(step, reader.model_item(step))
    leaves: Parameters = {}
    for names in shapes:
        inner = leaves
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
        inner[names[-1]] = parameters.read_leaf(names)
    distilled = None
    if loss := config.get("distill", {}).get("loss"):
        sample = {name: config["sample"][name] for name in STUDENT_SETTINGS}
        distilled = {"loss": loss, "sample": sample}
    return Adapter(lora, leaves, config.get(FINGERPRINT), distilled)


def lora_config(config: Mapping[str, Any]) -> LoRAConfig | None:
    """Returns the adapters' settings in a resolved config; None if there are no adapters."""
    values = config.get("lora", {})
    if not values.get("rank"):
        return None
    return LoRAConfig(
        values["rank"],
        values["alpha"],
        tuple(values["target_modules"]),
        values.get("use_rslora", False),
        values.get("quantize", ""),
    )


def _with_own_folders(run: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Replaces autoencoder and tokenizer of a config by those in the run folder, if there are.

    Keys that older configs lack get their defaults.
    """
    data = {"tokenizer": ""} | config.get("data", {})
    config = {"weights": "", "autoencoder": ""} | config | {"data": data}
    if (run / AUTOENCODER).is_dir():
        config["autoencoder"] = str((run / AUTOENCODER).absolute())
    if (run / TOKENIZER).is_dir():
        config["data"]["tokenizer"] = str((run / TOKENIZER).absolute())
    return config


def _with_base(config: dict[str, Any], base: Checkpoint) -> dict[str, Any]:
    """Replaces weights, autoencoder and tokenizer of a config by those of a base."""
    tokenizer = hub.recorded(base.tokenizer) if base.tokenizer else ""
    return config | {
        "weights": hub.recorded(base.step_path),
        "autoencoder": hub.recorded(base.autoencoder) if base.autoencoder else "",
        "data": config["data"] | {"tokenizer": tokenizer},
    }


def _folder(path: str) -> Path | None:
    return model_path(path) if path else None
