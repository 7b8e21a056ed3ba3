"""diffusers' port of OmniGen (`OmniGenTransformer2DModel`): other names, separate q, k and v."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.weights.maps import leaves
from ditfuse_jax.weights.omnigen import POSITIONS, read_json
from ditfuse_jax.weights.tensors import Tensors

CLASS = "OmniGenTransformer2DModel"

# Prefix of a name in the original -> in diffusers.
_PREFIXES = {
    "llm.layers.": "layers.",
    "llm.embed_tokens.": "embed_tokens.",
    "llm.norm.": "norm.",
    "x_embedder.proj.": "patch_embedding.output_image_proj.",
    "input_x_embedder.proj.": "patch_embedding.input_image_proj.",
    "time_token.mlp.0.": "time_token.linear_1.",
    "time_token.mlp.2.": "time_token.linear_2.",
    "t_embedder.mlp.0.": "t_embedder.linear_1.",
    "t_embedder.mlp.2.": "t_embedder.linear_2.",
    "final_layer.adaLN_modulation.1.": "norm_out.linear.",
    "final_layer.linear.": "proj_out.",
}


class DiffusersTensors(Tensors):
    """Tensors of diffusers' port under the original's names, with q, k and v joined."""

    def __init__(self, tensors: Tensors, model: ModelConfig):
        super().__init__({}, tensors.path)
        self._tensors = tensors
        known = {
            t.name: diffusers_names(t.name) for leaf in leaves(model).values() for t in leaf.tensors
        }
        known[POSITIONS] = ("patch_embedding.pos_embed",)
        # A tensor that lacks a part counts as missing; unknown tensors keep their name.
        self._parts = {name: parts for name, parts in known.items() if set(parts) <= tensors.names}
        taken = {part for parts in self._parts.values() for part in parts}
        self._parts |= {name: (name,) for name in tensors.names - taken}

    @property
    def names(self) -> frozenset[str]:
        """See `Tensors`."""
        return frozenset(self._parts)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `Tensors`."""
        shapes = [self._tensors.shape(part) for part in self._parts[name]]
        return sum(shape[0] for shape in shapes), *shapes[0][1:]

    def dtype(self, name: str) -> np.dtype:
        """See `Tensors`."""
        return self._tensors.dtype(self._parts[name][0])

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """See `Tensors`."""
        parts = self._parts[name]
        if len(parts) == 1:
            return self._tensors.read(parts[0], rows)
        whole = np.concatenate([self._tensors.read(part) for part in parts])
        return whole if rows is None else whole[rows]


def diffusers_names(name: str) -> tuple[str, ...]:
    """Returns diffusers' names of the parts of an original tensor, in order of concatenation."""
    prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
    name = _PREFIXES.get(prefix, "") + name.removeprefix(prefix)
    if ".qkv_proj." in name:
        return tuple(name.replace(".qkv_proj.", f".to_{part}.") for part in "qkv")
    return (name.replace(".o_proj.", ".to_out.0."),)


def config_from_diffusers(path: Path, **changes: Any) -> ModelConfig:
    """Reads the port's `config.json`.

    Raises:
      UserError: it is missing, of another class, or has settings that are not supported.
    """
    raw = read_json(path)
    if raw.get("_class_name") != CLASS:
        raise UserError(f"{path} is a config of {raw.get('_class_name')!r}, not of {CLASS}")
    fixed: Mapping[str, Any] = {
        "time_step_dim": 256,
        "flip_sin_to_cos": True,
        "downscale_freq_shift": 0,
        "timestep_activation_fn": "silu",
    }
    for name, wanted in fixed.items():
        if raw.get(name, wanted) != wanted:
            raise UserError(f"{path}: {name} {raw[name]!r} is not supported, only {wanted!r}")
    try:
        scaling = raw.get("rope_scaling") or {}
        values = {
            "preset": "omnigen",
            "hidden_size": raw["hidden_size"],
            "num_layers": raw["num_layers"],
            "num_heads": raw["num_attention_heads"],
            "num_kv_heads": raw["num_key_value_heads"],
            "intermediate_size": raw["intermediate_size"],
            "vocab_size": raw["vocab_size"],
            "channels": raw["in_channels"],
            "patch_size": raw["patch_size"],
            "pos_embed_max_size": raw["pos_embed_max_size"],
            "rms_norm_eps": raw["rms_norm_eps"],
            "rope_theta": float(raw["rope_base"]),
            "rope_short_factor": tuple(scaling.get("short_factor", ())),
            "rope_long_factor": tuple(scaling.get("long_factor", ())),
            "original_max_position": raw["original_max_position_embeddings"],
            "max_position": raw["max_position_embeddings"],
            "text_slots": (64, 16, 128),
        }
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a config of {CLASS}: {error!r}") from error
    return ModelConfig.from_dict(values | changes)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Paths of a folder in diffusers' layout; `pipeline` is None for a transformer alone."""

    config: Path
    tensors: Path
    pipeline: Path | None


def find_layout(folder: Path) -> Layout | None:
    """Returns the paths of a pipeline folder or of a transformer folder; None for anything else."""
    inner = folder / "transformer"
    if (inner / "config.json").is_file():
        return Layout(inner / "config.json", inner, folder)
    config = folder / "config.json"
    if config.is_file() and "_class_name" in read_json(config):
        return Layout(config, folder, None)
    return None
