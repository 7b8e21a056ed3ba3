"""The parser's tokenizer: WordPiece over lower-cased text, as BERT's."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

PAD, UNKNOWN = "[PAD]", "[UNK]"


@cache
def load_wordpiece(vocabulary: Path) -> tokenizers.Tokenizer:
    """Returns the tokenizer of a vocabulary file, one token a line, the first `[PAD]`."""
    words = vocabulary.read_text(encoding="utf-8").split("\n")
    return make_wordpiece([word for word in words if word])


def make_wordpiece(vocabulary: Sequence[str]) -> tokenizers.Tokenizer:
    """Returns the tokenizer of a vocabulary, whose first token is `[PAD]`."""
    ids = {word: k for k, word in enumerate(vocabulary)}
    made = tokenizers.Tokenizer(WordPiece(ids, unk_token=UNKNOWN))
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    return made


def encode_texts(
    tokenizer: tokenizers.Tokenizer,
    texts: Sequence[str],
    max_length: int,
    lengths: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Encodes B texts.

    Args:
      tokenizer: from `load_wordpiece`.
      texts: B texts; what exceeds `max_length` tokens is cut.
      max_length: most tokens.
      lengths: padded lengths to choose the smallest of; by default the longest text's.

    Returns:
      Token ids int32 (B, N) and their validity, bool (B, N).
    """
    ids = [found.ids[:max_length] for found in tokenizer.encode_batch(list(texts))]
    longest = max([1, *map(len, ids)])
    length = min((n for n in lengths if n >= longest), default=longest)
    tokens = np.zeros((len(ids), length), np.int32)
    valid = np.zeros((len(ids), length), bool)
    for row, values in enumerate(ids):
        tokens[row, : len(values)] = values
        valid[row, : len(values)] = True
    return tokens, valid
