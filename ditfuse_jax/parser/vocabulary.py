"""Which tokens of an encoder's vocabulary a parser keeps."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

# BERT's vocabulary is roughly sorted by frequency.
_FREQUENT = 12_000
_WORD = re.compile("[a-z]+")
# How often a word must occur before words like it are added.
_COMMON = 3


def frequent_tokens(vocabulary: Sequence[str]) -> list[int]:
    """Returns the rows of padding, unknown, and frequent tokens of ASCII letters."""
    kept = [vocabulary.index("[PAD]"), vocabulary.index("[UNK]")]
    for row, token in enumerate(vocabulary):
        plain = token.removeprefix("##")
        if token.startswith("["):
            continue
        short = len(plain) == 1 and plain.isascii()
        common = row < _FREQUENT and plain.isascii() and plain.isalpha()
        if short or common:
            kept.append(row)
    return kept


def words_for_sentences(
    vocabulary: Sequence[str],
    embeddings: np.ndarray,
    known: Iterable[str],
    sentences: Iterable[str],
    alike: int,
) -> list[int]:
    """Returns the rows of further words for the language of some sentences.

    Without them, words such as "brighter" or "hazy", which are rare in other texts, would be split
    into pieces that mean nothing.

    Args:
      vocabulary: V tokens of an encoder.
      embeddings: (V, D), theirs.
      known: the tokens that a parser has.
      sentences: those it is trained on.
      alike: how many words are added that do not occur in the sentences, those with the largest
        cosine similarity to a word that does.

    Returns:
      Rows of the vocabulary, sorted.
    """
    counts: dict[str, int] = {}
    for sentence in sentences:
        for word in _WORD.findall(sentence.lower()):
            counts[word] = counts.get(word, 0) + 1
    known = set(known)
    new = [
        row
        for row, token in enumerate(vocabulary)
        if token not in known and token.isascii() and token.isalpha()
    ]
    occurring = [row for row in new if vocabulary[row] in counts]
    others = [row for row in new if vocabulary[row] not in counts]
    common = [row for row, token in enumerate(vocabulary) if counts.get(token, 0) >= _COMMON]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    nearest = (unit[others] @ unit[common].T).max(axis=1)
    return sorted(occurring + [others[k] for k in np.argsort(-nearest, kind="stable")[:alike]])
