"""Tokenizers that need no transformers, whose import takes a second."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import tokenizers

_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")

# With other settings, transformers changes what it reads from tokenizer.json.
_KNOWN_SETTINGS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
}


class FastTokenizer:
    """The part of transformers' `PreTrainedTokenizerFast` that this package uses, for ids alike."""

    def __init__(self, backend: tokenizers.Tokenizer, tokens: dict[str, str]):
        """Wraps a tokenizer; `tokens` holds `bos_token`, `eos_token`, `pad_token`, if there are."""
        self.backend_tokenizer = backend
        ids = {name: backend.token_to_id(token) for name, token in tokens.items()}
        self.bos_token_id = ids.get("bos_token")
        self.eos_token_id = ids.get("eos_token")
        self.pad_token_id = ids.get("pad_token")

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Returns the ids of a text."""
        return self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, special tokens included."""
        return self.backend_tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def get_vocab(self) -> dict[str, int]:
        """Returns token -> id."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    @overload
    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int | None]: ...
    def convert_tokens_to_ids(self, tokens):
        """Returns the id of a token, or of each of several; None for an unknown one."""
        if isinstance(tokens, str):
            return self.backend_tokenizer.token_to_id(tokens)
        return [self.backend_tokenizer.token_to_id(token) for token in tokens]

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)


def read_fast_tokenizer(folder: Path) -> FastTokenizer | None:
    """Reads a tokenizer whose settings leave its `tokenizer.json` as it is.

    Returns:
      The tokenizer; None if its settings are others, so that transformers must read it.

    Raises:
      Exception: the files are damaged; the Rust parser raises no narrower class.
    """
    config_file = folder / "tokenizer_config.json"
    if not config_file.is_file() or any(
        (folder / name).exists() for name in ("special_tokens_map.json", "added_tokens.json")
    ):
        return None
    config: dict[str, Any] = json.loads(config_file.read_text("utf-8"))
    tokens = {name: config.pop(name) for name in _TOKENS if name in config}
    if config != _KNOWN_SETTINGS or not all(isinstance(t, str) for t in tokens.values()):
        return None
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.no_truncation()  # as transformers does
    backend.no_padding()
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    # Transformers would add a special token that tokenizer.json lacks.
    if not all(token in added and added[token].special for token in tokens.values()):
        return None
    return FastTokenizer(backend, tokens)
