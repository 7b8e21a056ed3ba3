"""OmniGen's original layout: config, check of all tensors, position table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.paths import as_path
from ditfuse_jax.weights.maps import leaves
from ditfuse_jax.weights.tensors import Tensors

# The table of position embeddings, which is computed here and stored in the original.
POSITIONS = "pos_embed"


def config_from_phi3(path: Path, **changes: Any) -> ModelConfig:
    """Reads a Phi-3 `config.json` as OmniGen's model config.

    Args:
      path: the JSON file.
      changes: fields of `ModelConfig` that the file does not hold (`text_slots`, ...).

    Raises:
      UserError: the file is missing or not a Phi-3 config.
    """
    raw = read_json(path)
    try:
        scaling = raw.get("rope_scaling") or {}
        kind = scaling.get("type", scaling.get("rope_type", "longrope"))
        if kind not in ("longrope", "su"):
            raise UserError(f"{path}: rope scaling {kind!r} is not supported, only 'longrope'")
        for name, wanted in (("hidden_act", "silu"), ("partial_rotary_factor", 1.0)):
            if raw.get(name, wanted) != wanted:
                raise UserError(f"{path}: {name} {raw[name]!r} is not supported, only {wanted!r}")
        values = {
            "preset": "omnigen",
            "hidden_size": raw["hidden_size"],
            "num_layers": raw["num_hidden_layers"],
            "num_heads": raw["num_attention_heads"],
            "num_kv_heads": raw.get("num_key_value_heads") or raw["num_attention_heads"],
            "intermediate_size": raw["intermediate_size"],
            "vocab_size": raw["vocab_size"],
            "rms_norm_eps": raw["rms_norm_eps"],
            "rope_theta": raw["rope_theta"],
            "rope_short_factor": tuple(scaling.get("short_factor", ())),
            "rope_long_factor": tuple(scaling.get("long_factor", ())),
            "original_max_position": raw["original_max_position_embeddings"],
            "max_position": raw["max_position_embeddings"],
            "text_slots": (64, 16, 128),
        }
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a Phi-3 config.json: {error!r}") from error
    try:
        return ModelConfig.from_dict(values | changes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def phi3_config(model: ModelConfig) -> dict[str, Any]:
    """Returns the `config.json` of a model, as `config_from_phi3` and transformers read it."""
    config = {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "intermediate_size": model.intermediate_size,
        "vocab_size": model.vocab_size,
        "rms_norm_eps": model.rms_norm_eps,
        "rope_theta": model.rope_theta,
        "original_max_position_embeddings": model.original_max_position,
        "max_position_embeddings": model.max_position,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "use_cache": True,
    }
    if model.rope_short_factor:
        config["rope_scaling"] = {
            "type": "longrope",
            "short_factor": list(model.rope_short_factor),
            "long_factor": list(model.rope_long_factor),
        }
    return config


def position_embedding(model: ModelConfig) -> np.ndarray:
    """Returns the original's sin-cos table of S x S positions, (1, S * S, D) float32.

    See `model.patches.position_table`, which computes the part that a grid needs.
    """
    side, half = model.pos_embed_max_size, model.hidden_size // 2
    frequencies = 1.0 / 10000 ** (np.arange(half // 2, dtype=np.float64) / (half / 2))
    cells = np.arange(side, dtype=np.float32) / (side / 64)
    angles = np.einsum("m,d->md", cells, frequencies)
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    columns = np.broadcast_to(table[None, :], (side, side, half))
    rows = np.broadcast_to(table[:, None], (side, side, half))
    whole = np.concatenate([columns, rows], axis=-1)
    return whole.reshape(1, side * side, 2 * half).astype(np.float32)


def check_tensors(tensors: Tensors, model: ModelConfig) -> None:
    """Compares names, shapes and types of tensors with those of a config; no tensor is read.

    Raises:
      UserError: names the first tensor that is missing, unexpected or of another shape or type.
    """
    needed = {t.name: t.shape for leaf in leaves(model).values() for t in leaf.tensors}
    problems = {
        "lacks": sorted(set(needed) - tensors.names),
        "has unknown": sorted(tensors.names - set(needed) - {POSITIONS}),
        "has another shape for": sorted(
            name for name in set(needed) & tensors.names if tensors.shape(name) != needed[name]
        ),
    }
    for problem, names in problems.items():
        if not names:
            continue
        name = names[0]
        found = tensors.shape(name) if name in tensors.names else None
        hint = ""
        if name == "llm.embed_tokens.weight" and problem == "has another shape for":
            hint = f" (vocab_size is {model.vocab_size} in config.json)"
        raise UserError(
            f"{tensors.path} {problem} tensor {name}: found {found}, expected "
            f"{needed.get(name)}{hint}; and {len(names) - 1} more"
        )
    for name in needed:
        tensors.dtype(name)


def parameters_from_original(
    tensors: Tensors | Mapping[str, np.ndarray], model: ModelConfig
) -> dict[str, Any]:
    """Reads all parameters of `DiTFuse`, as a nested dict of NumPy arrays.

    Raises:
      UserError: see `check_tensors`.
      KeyError: a mapping lacks a tensor.
    """
    if isinstance(tensors, Tensors):
        check_tensors(tensors, model)
    parameters: dict[str, Any] = {}
    for path, leaf in leaves(model).items():
        inner = parameters
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = leaf.read(tensors)
    return parameters


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      UserError: the file is missing or holds something else.
    """
    try:
        raw = json.loads(as_path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} is not a JSON object")
    return raw
