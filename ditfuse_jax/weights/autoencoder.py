"""Autoencoders in diffusers' layout (`AutoencoderKL`): `config.json` and safetensors."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import sha256
from ditfuse_jax.model.autoencoder import AutoencoderConfig, read_autoencoder_config
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.model.rngs import InitialKeys
from ditfuse_jax.model.space import LatentSpace, PixelSpace, Space
from ditfuse_jax.paths import as_path
from ditfuse_jax.weights.hub_files import model_files
from ditfuse_jax.weights.tensors import Tensors, open_tensors

if TYPE_CHECKING:
    from flax import nnx

# The keys that lead to a parameter; numbers are indices into lists of modules.
_Path = tuple[Any, ...]

# Names of the attention's maps before diffusers 0.18.
_OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclasses.dataclass(frozen=True)
class LoadedAutoencoder:
    """An autoencoder in memory.

    Attributes:
      config: sizes and scaling.
      graph: its structure; `nnx.merge(graph, parameters)` is the module.
      parameters: nested dict of float32 arrays.
    """

    config: AutoencoderConfig
    graph: "nnx.GraphDef"
    parameters: dict[Any, Any]


def autoencoder_folder(path: Path | str) -> Path:
    """Returns the folder of an autoencoder; one on the Hub is downloaded.

    Raises:
      UserError: there is no such folder.
    """
    if hub.is_address(path):
        return hub.download(path, model_files, "safetensors of an autoencoder")
    folder = as_path(path)
    if not folder.is_dir():
        raise UserError(f"no autoencoder at {folder}: there is no such folder")
    return folder


def fingerprint(folder: Path | str) -> str:
    """Returns the SHA-256 of an autoencoder: its parsed config and the contents of its files.

    Raises:
      UserError: there is no autoencoder in the folder.
    """
    folder = autoencoder_folder(folder)
    digest = hashlib.sha256(repr(read_autoencoder_config(folder / "config.json")).encode())
    for file in sorted(open_tensors(folder).files):
        digest.update(sha256(file).encode())
    return digest.hexdigest()


def load_autoencoder(folder: Path | str, dtype: str = "float32") -> LoadedAutoencoder:
    """Loads the autoencoder in a folder.

    Args:
      folder: with `config.json` and `diffusion_pytorch_model.safetensors`, here or on the Hub.
      dtype: computation type.

    Raises:
      UserError: the folder is incomplete or damaged, or its tensors are not those of its config.
    """
    folder = autoencoder_folder(folder)
    config = read_autoencoder_config(folder / "config.json")
    graph, shapes = abstract_autoencoder(config, dtype)
    tensors = open_tensors(folder)
    parameters: dict[Any, Any] = {}
    taken = set()
    for path, shape in _flat(shapes):
        name, value = _read(tensors, path, shape)
        taken.add(name)
        inner = parameters
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = jax.numpy.asarray(value, np.float32)
    if unknown := sorted(tensors.names - taken):
        raise UserError(
            f"{tensors.path} has unknown tensor {unknown[0]} of shape "
            f"{tensors.shape(unknown[0])} and {len(unknown) - 1} more"
        )
    return LoadedAutoencoder(config, graph, parameters)


def load_space(model: ModelConfig, autoencoder: Path | str | None) -> tuple[Space, Parameters]:
    """Returns the space that a model works in, and the autoencoder's parameters.

    Args:
      model: the model's config.
      autoencoder: folder of its autoencoder; not needed by a model on pixels.

    Raises:
      UserError: a model on latents has no autoencoder, or one that does not fit.
    """
    if model.latent_downsampling == 1:
        return PixelSpace(), {}
    if not autoencoder:
        raise UserError(
            f"this model ({model.preset!r}) works on latents and needs an autoencoder, which is "
            "neither beside the weights nor in their config"
        )
    loaded = load_autoencoder(autoencoder)
    needed = (model.latent_downsampling, model.channels)
    found = (loaded.config.downsampling, loaded.config.latent_channels)
    if found != needed:
        raise UserError(
            f"autoencoder {autoencoder} makes latents {found[0]} times smaller with {found[1]} "
            f"channels, the model needs {needed[0]} times and {needed[1]}"
        )
    return LatentSpace(loaded.config, loaded.graph), loaded.parameters


def abstract_autoencoder(
    config: AutoencoderConfig, dtype: str = "float32"
) -> "tuple[nnx.GraphDef, dict[Any, Any]]":
    """Returns the structure and the shapes of the parameters; nothing is allocated."""
    from flax import nnx  # here, so that fusing without an autoencoder needs no Flax

    from ditfuse_jax.model.autoencoder import Autoencoder

    graph, state = nnx.split(
        nnx.eval_shape(lambda: Autoencoder(config, rngs=InitialKeys(0), dtype=dtype))
    )
    return graph, nnx.to_pure_dict(state)


def autoencoder_tensors(parameters: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """Returns parameters under diffusers' names and in its layout; the inverse of loading."""
    return {_name(path): _to_diffusers(path, np.asarray(x)) for path, x in _flat(parameters)}


def _read(tensors: Tensors, path: _Path, shape: Any) -> tuple[str, np.ndarray]:
    name = _name(path)
    if name not in tensors.names and ".attentions." in name:
        for new, old in _OLD_NAMES.items():
            name = name.replace(f".{new}.", f".{old}.")
    expected = _diffusers_shape(path, shape.shape)
    if name not in tensors.names:
        raise UserError(f"{tensors.path} lacks tensor {_name(path)} of shape {expected}")
    found = tensors.shape(name)
    value = tensors.read(name)
    if ".attentions." in name and found == (*expected, 1, 1):  # formerly convolutions
        value = value.reshape(expected)
    elif found != expected:
        raise UserError(f"{tensors.path}: tensor {name} has shape {found}, expected {expected}")
    return name, _from_diffusers(path, value)


def _name(path: _Path) -> str:
    """Returns diffusers' name of a parameter."""
    *module, leaf = path
    name = ".".join(map(str, module)).replace("to_out", "to_out.0")
    return f"{name}.{'bias' if leaf == 'bias' else 'weight'}"


def _from_diffusers(path: _Path, x: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return x
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


def _to_diffusers(path: _Path, x: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return x
    return np.ascontiguousarray(x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T)


def _diffusers_shape(path: _Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    if path[-1] != "kernel":
        return tuple(shape)
    order = (3, 2, 0, 1) if len(shape) == 4 else (1, 0)
    return tuple(shape[axis] for axis in order)


def _flat(tree: Mapping[Any, Any], path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*path, key))
        else:
            yield (*path, key), value
