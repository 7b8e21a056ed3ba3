"""OmniGen's original checkpoint names and how each tensor maps onto ours.

PyTorch keeps linear weights as (out, in); ours are (in, out) with the fused projections split into
their meaning, and layers stacked.  The mapping here is pure bookkeeping on NumPy arrays.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import ModelConfig

Tensors = Mapping[str, np.ndarray]


def config_from_phi3(path: Path, **changes: Any) -> ModelConfig:
    """Reads a Phi-3 `config.json` as OmniGen's model config.

    Args:
      path: the JSON file.
      changes: fields of `ModelConfig` it does not hold (`text_slots`, `pos_embed_max_size`, ...).

    Raises:
      UserError: the file is missing or not a Phi-3 config.
    """
    try:
        raw = json.loads(Path(path).read_text())
        scaling = raw.get("rope_scaling") or {}
        kind = scaling.get("type", scaling.get("rope_type", "longrope"))
        if kind not in ("longrope", "su"):
            raise UserError(f"{path}: rope scaling {kind!r} is not supported, only 'longrope'")
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
    except OSError as error:
        raise UserError(f"cannot read the model config {path}: {error.strerror}") from error
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a Phi-3 config.json: {error}") from error
    return ModelConfig.from_dict(values | changes)


def parameters_from_original(tensors: Tensors, config: ModelConfig) -> dict[str, Any]:
    """Maps original tensors to the nested parameter dict of `DiTFuse`.

    `pos_embed` is not a parameter here (it is computed) and is ignored.

    Raises:
      UserError: a tensor is missing, unexpected or has another shape than the config says.
    """
    reader = _Reader(tensors, config)
    width, patch, channels = config.hidden_size, config.patch_size, config.channels
    heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
    inner = config.intermediate_size

    def qkv(name: str) -> np.ndarray:
        fused = reader.take(f"{name}.weight", ((heads + 2 * kv_heads) * dim, width))
        q, k, v = np.split(fused, [heads * dim, (heads + kv_heads) * dim])
        grouped = np.concatenate(
            [
                q.reshape(kv_heads, heads // kv_heads, dim, width),
                k.reshape(kv_heads, 1, dim, width),
                v.reshape(kv_heads, 1, dim, width),
            ],
            axis=1,
        )
        return grouped.transpose(3, 0, 1, 2)

    def layer(index: int) -> dict[str, Any]:
        name = f"llm.layers.{index}"
        gate_up = reader.take(f"{name}.mlp.gate_up_proj.weight", (2 * inner, width))
        o_proj = reader.take(f"{name}.self_attn.o_proj.weight", (width, heads * dim))
        down = reader.take(f"{name}.mlp.down_proj.weight", (width, inner))
        return {
            "input_layernorm": {"scale": reader.take(f"{name}.input_layernorm.weight", (width,))},
            "post_attention_layernorm": {
                "scale": reader.take(f"{name}.post_attention_layernorm.weight", (width,))
            },
            "self_attn": {
                "qkv_proj": {"kernel": qkv(f"{name}.self_attn.qkv_proj")},
                "o_proj": {"kernel": o_proj.T.reshape(heads, dim, width)},
            },
            "mlp": {
                "gate_up_proj": {"kernel": gate_up.T.reshape(width, 2, inner)},
                "down_proj": {"kernel": down.T},
            },
        }

    def front(name: str) -> dict[str, np.ndarray]:
        kernel = reader.take(f"{name}.proj.weight", (width, channels, patch, patch))
        return {
            "kernel": kernel.transpose(2, 3, 1, 0),
            "bias": reader.take(f"{name}.proj.bias", (width,)),
        }

    def linear(name: str, inputs: int, outputs: tuple[int, ...]) -> dict[str, np.ndarray]:
        size = int(np.prod(outputs))
        kernel = reader.take(f"{name}.weight", (size, inputs))
        bias = reader.take(f"{name}.bias", (size,))
        return {"kernel": kernel.T.reshape(inputs, *outputs), "bias": bias.reshape(outputs)}

    def time_mlp(name: str) -> dict[str, Any]:
        return {
            "inner": linear(f"{name}.mlp.0", 256, (width,)),
            "outer": linear(f"{name}.mlp.2", width, (width,)),
        }

    parameters = {
        "embed_tokens": reader.take("llm.embed_tokens.weight", (config.vocab_size, width)),
        "x_embedder": front("x_embedder"),
        "input_x_embedder": front("input_x_embedder"),
        "time_token": time_mlp("time_token"),
        "t_embedder": time_mlp("t_embedder"),
        "transformer": {
            "layers": _stack([layer(i) for i in range(config.num_layers)]),
            "norm": {"scale": reader.take("llm.norm.weight", (width,))},
        },
        "head": {
            "output": {
                "modulation": linear("final_layer.adaLN_modulation.1", width, (2, width)),
                "linear": linear("final_layer.linear", width, (patch, patch, channels)),
            }
        },
    }
    reader.finish(ignored=("pos_embed",))
    return parameters


class _Reader:
    """Hands out tensors by name, checks shapes and remembers what was asked for."""

    def __init__(self, tensors: Tensors, config: ModelConfig):
        self.tensors, self.config, self.taken = tensors, config, set()

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self.tensors:
            raise UserError(f"the checkpoint lacks tensor {name} of shape {shape}")
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise UserError(
                f"tensor {name} has shape {tensor.shape}, the model config needs {shape}"
            )
        self.taken.add(name)
        return np.asarray(tensor)

    def finish(self, ignored: tuple[str, ...]) -> None:
        surplus = sorted(set(self.tensors) - self.taken - set(ignored))
        if surplus:
            raise UserError(f"the checkpoint has {len(surplus)} unknown tensors, e.g. {surplus[0]}")


def _stack(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks the leaves of equal nested dicts along a new first axis."""
    first = layers[0]
    return {
        key: _stack([layer[key] for layer in layers])
        if isinstance(first[key], dict)
        else np.stack([layer[key] for layer in layers])
        for key in first
    }
