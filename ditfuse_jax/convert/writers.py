"""Writing converted weights: complete under their name, or not there at all."""

import contextlib
import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
import tqdm
from ml_collections import ConfigDict

from ditfuse_jax.convert.weights import Names, Weights
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.model import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.train.base import AUTOENCODER, TOKENIZER
from ditfuse_jax.train.checkpoint import Checkpoints, write_errors
from ditfuse_jax.train.recipe import Config, default_config, to_json
from ditfuse_jax.weights.bundle import RECIPE, TENSORS, without_paths
from ditfuse_jax.weights.maps import leaves
from ditfuse_jax.weights.omnigen import POSITIONS, phi3_config, position_embedding
from ditfuse_jax.weights.run_paths import CHECKPOINTS, PARAMETERS
from ditfuse_jax.weights.tensors import write_safetensors

# Bytes written at a time; a whole stacked parameter in one piece would be copied whole.
_CHUNK = 16 << 20

_AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "tokenizer.model"),
)


def write_run(weights: Weights, output: Path, quiet: bool = False) -> None:
    """Writes a run folder without training: parameters, config, autoencoder, tokenizer.

    Raises:
      UserError: the folder exists or cannot be written; nothing is left then.
    """
    config = run_config(weights)
    with new_folder(output) as folder, _progress(weights, quiet) as bar:
        checkpoints = Checkpoints(folder)
        checkpoints.save_config(0, config.to_dict())
        checkpoints.close()
        step = folder / CHECKPOINTS / "0"
        part = folder / "part"
        for path in weights.abstract:
            with write_errors(output):
                _save(part, path, weights.read(path, None))
            gc.collect()  # or two parameters would be held at a time
            bar.update(weights.abstract[path].size * weights.abstract[path].dtype.itemsize)
        ocp.partial.finalize(str(part))
        (part / "state").rename(step / PARAMETERS)
        shutil.rmtree(part)
        carry(weights, folder / AUTOENCODER, folder / TOKENIZER)
        write_text(folder / "config.json", to_json(config))


def _save(part: Path, path: Names, value: np.ndarray) -> None:
    """Adds one parameter to a checkpoint that is written in parts."""
    device = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    # Unlike `device_put` this takes aligned memory as it is, without a copy.
    tree: Any = jax.make_array_from_callback(value.shape, device, value.__getitem__)
    for key in reversed(path):
        tree = {key: tree}
    context = ocp.Context()
    saving = context.array.saving
    saving.storage_options.chunk_byte_size = _CHUNK
    # OCDBT would hold a copy of what it writes; compression takes longer than it saves.
    saving.use_ocdbt = saving.use_compression = False
    with context:
        ocp.partial.save(str(part), tree)


def write_original(weights: Weights, output: Path, quiet: bool = False) -> None:
    """Writes a folder in OmniGen's layout: model.safetensors, config.json, vae/, tokenizer.

    Raises:
      UserError: the model has not OmniGen's shape, or the folder exists or cannot be written;
        nothing is left then.
    """
    check_original_shape(weights.model)
    table = leaves(weights.model)
    places: dict[str, tuple[Names, int]] = {}
    specs: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for path, leaf in table.items():
        for number, tensor in enumerate(leaf.tensors):
            places[tensor.name] = path, number
            specs[tensor.name] = weights.abstract[path].dtype, tensor.shape
    positions = position_embedding(weights.model)
    specs[POSITIONS] = weights.abstract[("embed_tokens",)].dtype, positions.shape

    with new_folder(output) as folder, _progress(weights, quiet) as bar:

        def read(name: str) -> np.ndarray:
            if name == POSITIONS:
                return positions.astype(specs[name][0])
            path, number = places[name]
            if table[path].stacked:
                value = weights.read(path, slice(number, number + 1))[0]
            else:
                value = weights.read(path, None)
            bar.update(value.nbytes)
            return table[path].to_original(value)

        write_safetensors(folder / "model.safetensors", specs, read, {"format": "pt"})
        config = json.dumps(phi3_config(weights.model), indent=2, sort_keys=True)
        write_text(folder / "config.json", config + "\n")
        carry(weights, folder / "vae", folder)


def write_bundle(weights: Weights, output: Path, quiet: bool = False) -> None:
    """Writes a trained model for travelling; see `weights.bundle`.

    Raises:
      UserError: the weights come without a recipe, or with an autoencoder or a tokenizer of their
        own, or the folder exists or cannot be written; nothing is left then.
    """
    if weights.recipe is None or weights.autoencoder or weights.tokenizer:
        raise UserError(
            "a box holds a model on pixels that was trained here, with the shipped tokenizer: "
            "convert to a run folder instead"
        )
    paths = {".".join(path): path for path in weights.abstract}
    specs = {
        name: (weights.abstract[path].dtype, weights.abstract[path].shape)
        for name, path in paths.items()
    }
    with new_folder(output) as folder, _progress(weights, quiet) as bar:

        def read(name: str) -> np.ndarray:
            value = weights.read(paths[name], None)
            bar.update(value.nbytes)
            return value

        write_safetensors(folder / TENSORS, specs, read, {"format": "ditfuse_jax"})
        write_text(folder / RECIPE, to_json(without_paths(weights.recipe)))


def check_original_shape(model: ModelConfig) -> None:
    """Refuses a model that OmniGen's layout cannot hold.

    Raises:
      UserError: naming what differs.
    """
    wanted = {
        "head": "linear",
        "prediction": "velocity",
        "source_skip": False,
        "conv_stem": False,
        "pooled_prompt": False,
    }
    for name, value in wanted.items():
        if getattr(model, name) != value:
            raise UserError(
                f"OmniGen's layout holds models with {name}={value!r}, this one "
                f"({model.preset!r}) has {getattr(model, name)!r}: convert it to a run folder"
            )


def run_config(weights: Weights) -> Config:
    """The recipe that a folder of converted weights carries."""
    if weights.recipe is not None:
        config: Config = ConfigDict(weights.recipe)
        config.weights = config.autoencoder = config.data.tokenizer = ""
        return config
    config = default_config("omnigen")
    kept = {name: config.model[name] for name in RUNTIME_FIELDS}
    config.model = ConfigDict(weights.model.to_dict() | kept)
    return config


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder under a temporary name beside `output`, renamed to it when all went well.

    Raises:
      UserError: `output` exists, or nothing can be written there.
    """
    output = Path(output).expanduser().absolute()
    if output.exists():
        raise UserError(f"{output} exists: choose another output or remove it first")
    make_folder(output.parent)
    temporary = output.parent / f".{output.name}.partial"
    try:
        if temporary.exists():  # left by a conversion that was killed
            shutil.rmtree(temporary)
        temporary.mkdir()
        yield temporary
        temporary.rename(output)
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def carry(weights: Weights, autoencoder: Path, tokenizer: Path) -> None:
    """Copies the autoencoder and the tokenizer that belong to weights into these folders."""
    for source, target, names in (
        (weights.autoencoder, autoencoder, _AUTOENCODER_FILES),
        (weights.tokenizer, tokenizer, _TOKENIZER_FILES),
    ):
        if source is not None:
            _copy(source, target, names)


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _progress(weights: Weights, quiet: bool) -> tqdm.tqdm:
    total = sum(x.size * x.dtype.itemsize for x in weights.abstract.values())
    return tqdm.tqdm(total=total, unit="B", unit_scale=True, desc="converting", disable=quiet)
