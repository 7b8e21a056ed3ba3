"""Which tokens of an encoder a parser keeps."""

import json

import numpy as np

from ditfuse_jax.parser.vocabulary import frequent_tokens, words_for_sentences
from ditfuse_jax.parser.wordpiece import load_wordpiece
from ditfuse_jax.prompts.phrases import grammar_file
from ditfuse_jax.resources import resource

VOCABULARY = ["[PAD]", "[unused1]", "[UNK]", "a", "##b", "the", "café", "##ing", "2024", "dim"]


def test_frequent_tokens_are_letters_and_words_of_ascii_and_the_special_ones():
    kept = [VOCABULARY[row] for row in frequent_tokens(VOCABULARY)]
    assert kept == ["[PAD]", "[UNK]", "a", "##b", "the", "##ing", "dim"]


def test_words_beyond_the_frequent_ones_are_left_out():
    many = ["[PAD]", "[UNK]", *(f"w{'x' * k}" for k in range(12_500))]
    assert len(frequent_tokens(many)) == 12_000


def test_words_of_the_sentences_are_added_and_those_like_them():
    vocabulary = ["[PAD]", "the", "brighter", "lighter", "banana", "##er", "x1"]
    embeddings = np.array([[0, 1], [1, 5], [5, 1], [4, 1], [-3, 2], [5, 1], [5, 1]], np.float32)
    sentences = ["Brighter the!", "brighter, the", "the brighter"]
    rows = words_for_sentences(vocabulary, embeddings, ["[PAD]", "the"], sentences, 1)
    assert [vocabulary[row] for row in rows] == ["brighter", "lighter"]
    rows = words_for_sentences(vocabulary, embeddings, ["[PAD]", "the"], sentences, 0)
    assert [vocabulary[row] for row in rows] == ["brighter"]


def test_key_words_of_the_grammar_are_whole_in_the_bundled_parser():
    folder = resource("data", "parser")
    tokenizer = load_wordpiece(folder / "vocab.txt")
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    assert tokenizer.get_vocab_size() == size
    text = json.dumps([grammar_file(axis) for axis in ("brightness", "saturation", "detail")])
    words = {"brighter", "brightness", "darker", "vivid", "saturated", "crisp", "softer", "noisy"}
    for word in words:
        assert word in text, word
        assert tokenizer.encode(word).tokens == [word]
