"""A folder of OmniGen's weights, in the original layout or diffusers'."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.weights.diffusers import DiffusersTensors, config_from_diffusers, find_layout
from ditfuse_jax.weights.omnigen import POSITIONS, check_tensors, config_from_phi3
from ditfuse_jax.weights.tensors import Tensors, open_tensors


@dataclasses.dataclass(frozen=True)
class OmniGen:
    """Weights that were opened and found complete; no tensor is read yet.

    Attributes:
      config: from the folder's `config.json`.
      tensors: under the original's names.
      autoencoder: folder of the autoencoder, if there is one.
      tokenizer: folder of the tokenizer, if there is one.
    """

    config: ModelConfig
    tensors: Tensors
    autoencoder: Path | None
    tokenizer: Path | None


def is_weights(path: Path) -> bool:
    """Whether something there looks like weights, complete or not."""
    if path.is_file():
        return True
    names = ("config.json", "transformer/config.json", "model_index.json")
    return any((path / name).is_file() for name in names) or any(path.glob("*.safetensors"))


def open_omnigen(path: Path | str, **changes: Any) -> OmniGen:
    """Opens a folder or a `.safetensors` file with its `config.json` beside it.

    Args:
      path: a folder as downloaded (OmniGen-v1, or diffusers' port of it), or a file in one.
      changes: fields of `ModelConfig` that the files do not hold.

    Raises:
      UserError: nothing usable is there; the message names what is missing, surplus or wrong.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"no weights at {path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    layout = find_layout(folder)
    if layout is not None:
        config = config_from_diffusers(layout.config, **changes)
        tensors: Tensors = DiffusersTensors(
            open_tensors(layout.tensors if path.is_dir() else path), config
        )
        beside = layout.pipeline or folder
        tokenizer = beside / "tokenizer"
    else:
        tensors = open_tensors(path)
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{folder} has no config.json, which tells the model's sizes: get it where the "
                "weights came from"
            )
        if POSITIONS in tensors.names:
            side = math.isqrt(math.prod(tensors.shape(POSITIONS)[:-1]))
            changes = {"pos_embed_max_size": side} | changes
        config = config_from_phi3(folder / "config.json", **changes)
        beside = tokenizer = folder
    check_tensors(tensors, config)
    autoencoder = beside / "vae"
    return OmniGen(
        config,
        tensors,
        autoencoder if (autoencoder / "config.json").is_file() else None,
        tokenizer if (tokenizer / "tokenizer.json").is_file() else None,
    )
