"""Folders of OmniGen's weights, in the original layout or diffusers'."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.weights.checkpoint import ParameterPath, ParameterReader
from ditfuse_jax.weights.diffusers import DiffusersTensors, config_from_diffusers, find_layout
from ditfuse_jax.weights.maps import leaves
from ditfuse_jax.weights.omnigen import POSITIONS, check_tensors, config_from_phi3, read_json
from ditfuse_jax.weights.tensors import Tensors, open_tensors

# Key of `config.json` under which `ditfuse convert` writes unusual sampling settings.
SAMPLING = "sampling"


@dataclasses.dataclass(frozen=True)
class OmniGen:
    """Weights that were opened and found complete; no tensor is read yet.

    Attributes:
      kind: the layout, `omnigen` or `diffusers`.
      config: from the folder's `config.json`.
      tensors: under the original's names.
      autoencoder: folder of the autoencoder, if there is one.
      tokenizer: folder of the tokenizer, if there is one.
      tokenizer_fingerprint: from `config.json`, where `ditfuse convert` wrote it.
      sampling: the same; the usual settings where there are none.
    """

    kind: str
    config: ModelConfig
    tensors: Tensors
    autoencoder: Path | None
    tokenizer: Path | None
    tokenizer_fingerprint: str | None = None
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)


class OmniGenReader(ParameterReader):
    """The parameters of OmniGen's weights, in the layout that the model here has."""

    def __init__(self, tensors: Tensors, config: ModelConfig):
        """Creates a reader of tensors under the original's names."""
        self.path = tensors.path
        self._tensors = tensors
        self._table = leaves(config)

    def shapes(self) -> Mapping[ParameterPath, jax.ShapeDtypeStruct]:
        """See `ParameterReader`."""
        return {
            path: jax.ShapeDtypeStruct(leaf.shape, self._tensors.dtype(leaf.tensors[0].name))
            for path, leaf in self._table.items()
        }

    def read_leaf(self, path: ParameterPath, layers: slice | None = None) -> np.ndarray:
        """See `ParameterReader`."""
        leaf = self._table[path]
        index = None if layers is None else (layers, *(slice(None) for _ in leaf.shape[1:]))
        return leaf.read(self._tensors, index)

    def read(self, abstract: Parameters) -> Parameters:
        """See `ParameterReader`; each process reads only the rows that its devices hold."""
        flat = jax.tree_util.tree_leaves_with_path(abstract)
        total = sum(x.size * x.dtype.itemsize for _, x in flat)
        arrays = []
        with tqdm.tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            desc="weights",
            disable=jax.process_index() != 0,
            leave=False,
        ) as bar:
            for path, x in flat:
                leaf = self._table[tuple(key.key for key in path)]

                def read_part(index, leaf=leaf, dtype=x.dtype):
                    return leaf.read(self._tensors, index).astype(dtype, copy=False)

                arrays.append(jax.make_array_from_callback(x.shape, x.sharding, read_part))
                bar.update(x.size * x.dtype.itemsize)
        return jax.tree.unflatten(jax.tree.structure(abstract), arrays)


def is_weights(path: Path) -> bool:
    """Returns whether the path looks like weights in one of these layouts, complete or not."""
    if path.is_file():
        return True
    names = ("config.json", "transformer/config.json", "model_index.json")
    return any((path / name).is_file() for name in names) or any(path.glob("*.safetensors"))


def open_omnigen(path: Path | str, **changes: Any) -> OmniGen:
    """Opens a folder, or a `.safetensors` file beside its `config.json`.

    Args:
      path: a downloaded folder (OmniGen-v1, or diffusers' port of it), or a file in one.
      changes: fields of `ModelConfig` that the files do not hold.

    Raises:
      UserError: there are no weights, or a tensor is missing, unexpected or of another shape; it is
        named.
    """
    path = as_path(path)
    if not path.exists():
        raise UserError(f"no weights at {path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    layout = find_layout(folder)
    kind, fingerprint, sampling = "omnigen", None, SamplingConfig()
    if layout is not None:
        kind = "diffusers"
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
                f"{folder} has no config.json, which holds the model's sizes: get it where "
                "the weights came from"
            )
        if POSITIONS in tensors.names:
            side = math.isqrt(math.prod(tensors.shape(POSITIONS)[:-1]))
            changes = {"pos_embed_max_size": side} | changes
        config = config_from_phi3(folder / "config.json", **changes)
        fingerprint = read_json(folder / "config.json").get(FINGERPRINT)
        sampling = _read_sampling(folder / "config.json")
        beside = tokenizer = folder
    check_tensors(tensors, config)
    autoencoder = beside / "vae"
    return OmniGen(
        kind,
        config,
        tensors,
        autoencoder if (autoencoder / "config.json").is_file() else None,
        tokenizer if (tokenizer / "tokenizer.json").is_file() else None,
        fingerprint,
        sampling,
    )


def _read_sampling(path: Path) -> SamplingConfig:
    """Reads the sampling settings of a `config.json`.

    Raises:
      UserError: they are damaged.
    """
    try:
        return SamplingConfig.from_dict(read_json(path).get(SAMPLING, {}))
    except (TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{path}: its {SAMPLING!r} cannot be read ({error}): convert the model again"
        ) from error
