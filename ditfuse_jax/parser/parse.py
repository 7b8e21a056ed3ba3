"""Parsing instructions with the bundled parser, without JAX."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.parser.labels import NO_AXIS, OUTPUTS, to_requests
from ditfuse_jax.parser.network import ParserConfig, ParserParameters, parser_logits
from ditfuse_jax.parser.wordpiece import encode_texts, load_wordpiece
from ditfuse_jax.prompts.requests import Request, describe
from ditfuse_jax.resources import resource

if TYPE_CHECKING:
    import tokenizers

CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocab.txt", "parser.safetensors"

_BATCH = 64


@dataclass(frozen=True)
class ParsedInstruction:
    """What a sentence was understood to ask for.

    Attributes:
      requests: in the order of the sentence; none for the plain fusion.
      probability: the product of the slots' probabilities of their axes, in 0..1.
    """

    requests: tuple[Request, ...]
    probability: float

    def __str__(self) -> str:
        return describe(self.requests)


class InstructionParser:
    """Turns sentences into requests."""

    def __init__(
        self,
        config: ParserConfig,
        tokenizer: "tokenizers.Tokenizer",
        parameters: ParserParameters,
    ):
        """Creates a parser; `parameters` are NumPy arrays like those of `network.init_parser`."""
        self._config, self._parameters = config, parameters
        self._tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> list[ParsedInstruction]:
        """Parses sentences of any length; what exceeds the parser's length is ignored."""
        found: dict[int, ParsedInstruction] = {}
        # Sorted by length, so that little of a batch is padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(texts), _BATCH):
            part = order[start : start + _BATCH]
            tokens, valid = encode_texts(
                self._tokenizer, [texts[index] for index in part], self._config.max_length
            )
            logits = parser_logits(self._parameters, self._config, tokens, valid, np)
            for row, index in enumerate(part):
                found[index] = _parsed({name: logits[name][row] for name in OUTPUTS})
        return [found[index] for index in range(len(texts))]


def _parsed(logits: dict[str, np.ndarray]) -> ParsedInstruction:
    powers = np.exp(logits["axis"] - logits["axis"].max(axis=-1, keepdims=True))
    shares = powers.max(axis=-1) / powers.sum(axis=-1)
    # Slots after the first empty one do not matter.
    empty = np.flatnonzero(logits["axis"].argmax(axis=-1) == NO_AXIS)
    used = int(empty[0]) + 1 if len(empty) else len(shares)
    return ParsedInstruction(to_requests(logits), float(np.prod(shares[:used])))


@cache
def load_parser(folder: Path | None = None) -> InstructionParser:
    """Returns the parser in a folder, by default the bundled one.

    Raises:
      UserError: the folder does not hold a parser.
    """
    folder = resource("data", "parser") if folder is None else folder
    config, parameters = read_parser(folder)
    return InstructionParser(config, load_wordpiece(folder / VOCABULARY), parameters)


def read_parser(folder: Path) -> tuple[ParserConfig, dict[str, Any]]:
    """Returns the configuration and the parameters (float32) of a parser's folder.

    Raises:
      UserError: the folder does not hold a parser.
    """
    from safetensors.numpy import load_file

    try:
        config = ParserConfig(**json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"no instruction parser in {folder} ({reason}): get it again") from error
    parameters: dict[str, Any] = {}
    for name, value in tensors.items():
        *path, leaf = name.split(".")
        node = parameters
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = value.astype(np.float32)
    return config, parameters
