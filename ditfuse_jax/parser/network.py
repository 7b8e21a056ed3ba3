"""The instruction parser's network: a BERT encoder with three request tokens.

The encoder is that of BERT (arXiv 1810.04805) with post-normalised layers, so that weights of such
encoders can initialise it.  A token per request slot is put in front of the text; its last hidden
state predicts the slot's request.  The same function runs on NumPy arrays, to parse one sentence
without compiling anything, and on JAX arrays, to train.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ditfuse_jax.parser.labels import OUTPUTS
from ditfuse_jax.prompts.requests import MAX_REQUESTS

# Nested dict of arrays.
ParserParameters = Mapping[str, Any]

_EPSILON = 1e-12
_MASKED = -1e9
_INIT_STD = 0.02


@dataclasses.dataclass(frozen=True)
class ParserConfig:
    """Sizes of a parser.

    Attributes:
      vocab_size: rows of the token embedding.
      hidden_size: D.
      num_layers: number of encoder layers.
      num_heads: attention heads.
      intermediate_size: width of the MLP.
      max_length: most tokens of a text; longer ones are cut.
    """

    vocab_size: int
    hidden_size: int = 384
    num_layers: int = 3
    num_heads: int = 12
    intermediate_size: int = 1536
    max_length: int = 96


def init_parser(config: ParserConfig, rng: np.random.Generator) -> dict[str, Any]:
    """Returns random parameters, float32."""
    width, hidden = config.hidden_size, config.intermediate_size

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, _INIT_STD, shape).astype(np.float32)

    def dense(inputs: int, outputs: int) -> dict[str, np.ndarray]:
        return {"kernel": normal(inputs, outputs), "bias": np.zeros(outputs, np.float32)}

    def norm() -> dict[str, np.ndarray]:
        return {"scale": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}

    layers = {
        str(k): {
            "qkv": dense(width, 3 * width),
            "attention_out": dense(width, width),
            "attention_norm": norm(),
            "up": dense(width, hidden),
            "down": dense(hidden, width),
            "norm": norm(),
        }
        for k in range(config.num_layers)
    }
    return {
        "tokens": normal(config.vocab_size, width),
        "positions": normal(config.max_length, width),
        "requests": normal(MAX_REQUESTS, width),
        "norm": norm(),
        "layers": layers,
        "outputs": {name: dense(width, size) for name, size in OUTPUTS.items()},
    }


def parser_logits(
    parameters: ParserParameters, config: ParserConfig, tokens: Any, valid: Any, xp: Any
) -> dict[str, Any]:
    """Computes the logits of the request slots.

    Args:
      parameters: like those of `init_parser`.
      config: their sizes.
      tokens: (B, N) token ids, N at most `max_length`.
      valid: (B, N) False for padding.
      xp: the namespace of the arrays, `numpy` or `jax.numpy`.

    Returns:
      `OUTPUTS`: (B, 3, values).
    """
    batch, length = tokens.shape
    text = parameters["tokens"][tokens] + parameters["positions"][:length]
    slots = xp.broadcast_to(parameters["requests"], (batch, MAX_REQUESTS, config.hidden_size))
    x = _layer_norm(parameters["norm"], xp.concatenate([slots, text], axis=1), xp)
    always = xp.ones((batch, MAX_REQUESTS), bool)
    mask = xp.where(xp.concatenate([always, valid], axis=1), 0.0, _MASKED)[:, None, None]
    for k in range(config.num_layers):
        layer = parameters["layers"][str(k)]
        # The last layer only needs the request slots.
        queries = x[:, :MAX_REQUESTS] if k == config.num_layers - 1 else x
        attended = _attention(layer, config.num_heads, queries, x, mask, xp)
        queries = _layer_norm(layer["attention_norm"], queries + attended, xp)
        inner = _dense(layer["down"], _gelu(_dense(layer["up"], queries), xp))
        x = _layer_norm(layer["norm"], queries + inner, xp)
    return {name: _dense(head, x) for name, head in parameters["outputs"].items()}


def _attention(
    layer: ParserParameters, heads: int, queries: Any, x: Any, mask: Any, xp: Any
) -> Any:
    width = x.shape[-1]
    kernel, bias = layer["qkv"]["kernel"], layer["qkv"]["bias"]
    q = _product(queries, kernel[:, :width]) + bias[:width]
    k, v = xp.split(_product(x, kernel[:, width:]) + bias[width:], 2, axis=-1)

    def per_head(values: Any) -> Any:
        return values.reshape(*values.shape[:2], heads, -1).swapaxes(1, 2)

    scores = per_head(q) @ per_head(k).swapaxes(-1, -2) / (width // heads) ** 0.5 + mask
    weights = xp.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    out = (weights @ per_head(v)).swapaxes(1, 2).reshape(queries.shape)
    return _dense(layer["attention_out"], out)


def _dense(layer: ParserParameters, x: Any) -> Any:
    return _product(x, layer["kernel"]) + layer["bias"]


def _product(x: Any, kernel: Any) -> Any:
    """As one product of matrices: NumPy computes a stack (B, N, D) with one small product each."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _layer_norm(layer: ParserParameters, x: Any, xp: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / xp.sqrt(variance + _EPSILON) * layer["scale"] + layer["bias"]


def _gelu(x: Any, xp: Any) -> Any:
    """The tanh approximation: NumPy has no error function."""
    return 0.5 * x * (1 + xp.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))
