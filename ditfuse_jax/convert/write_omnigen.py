"""Writing weights in OmniGen's original layout."""

import json
from pathlib import Path

import numpy as np

from ditfuse_jax.convert.output import copy_companions, fingerprint_of, new_folder, progress_bar
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.weights import Checkpoint, write_safetensors
from ditfuse_jax.weights.checkpoint import ParameterPath
from ditfuse_jax.weights.maps import leaves
from ditfuse_jax.weights.omnigen import POSITIONS, phi3_config, position_embedding
from ditfuse_jax.weights.omnigen_folder import SAMPLING


def write_omnigen(checkpoint: Checkpoint, output: Path, *, quiet: bool = False) -> None:
    """Writes a folder with model.safetensors, config.json, vae/ and the tokenizer's files.

    Raises:
      UserError: the model has not OmniGen's shape, or the folder exists or cannot be written;
        nothing is left then.
    """
    model = checkpoint.model
    _check_shape(model)
    table, stored = leaves(model), checkpoint.shapes()
    places: dict[str, tuple[ParameterPath, int]] = {}
    specs: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for path, leaf in table.items():
        for number, tensor in enumerate(leaf.tensors):
            places[tensor.name] = path, number
            specs[tensor.name] = stored[path].dtype, tensor.shape
    positions = position_embedding(model)
    specs[POSITIONS] = stored[("embed_tokens",)].dtype, positions.shape

    with new_folder(output) as folder, progress_bar(checkpoint, quiet) as bar:

        def read(name: str) -> np.ndarray:
            if name == POSITIONS:
                return positions.astype(specs[name][0])
            path, number = places[name]
            if table[path].stacked:
                value = checkpoint.read_leaf(path, slice(number, number + 1))[0]
            else:
                value = checkpoint.read_leaf(path)
            bar.update(value.nbytes)
            return table[path].to_original(value)

        write_safetensors(folder / "model.safetensors", specs, read, {"format": "pt"})
        config = phi3_config(model)
        if fingerprint := fingerprint_of(checkpoint):
            config[FINGERPRINT] = fingerprint
        usual = SamplingConfig().to_dict()  # the original's, whose files have no place for others
        sampling = checkpoint.sampling.to_dict()
        if changed := {name: value for name, value in sampling.items() if value != usual[name]}:
            config[SAMPLING] = changed
        text = json.dumps(config, indent=2, sort_keys=True)
        write_text(folder / "config.json", text + "\n")
        copy_companions(checkpoint, folder, folder / "vae", folder)


def _check_shape(model: ModelConfig) -> None:
    """Checks that OmniGen's layout can hold a model.

    Raises:
      UserError: naming what differs.
    """
    wanted = {
        "head": "linear",
        "prediction": "velocity",
        "source_skip": False,
        "conv_stem": False,
        "adjustments": False,
        "pooled_prompt": False,
    }
    for name, value in wanted.items():
        if getattr(model, name) != value:
            raise UserError(
                f"OmniGen's layout holds models with {name}={value!r}, this one "
                f"({model.preset!r}) has {getattr(model, name)!r}: convert it to a run folder"
            )
