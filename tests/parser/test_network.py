"""The instruction parser's network and labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.parser.labels import OUTPUTS, to_labels, to_requests
from ditfuse_jax.parser.network import ParserConfig, init_parser, parser_logits
from ditfuse_jax.parser.training import parser_loss
from ditfuse_jax.parser.wordpiece import encode_texts, make_wordpiece
from ditfuse_jax.prompts.grammar import distinct_instructions

pytestmark = pytest.mark.medium

CONFIG = ParserConfig(20, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=64)


@pytest.fixture(scope="module")
def parameters():
    return init_parser(CONFIG, np.random.default_rng(0))


def _tokens(rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
    return rng.integers(2, CONFIG.vocab_size, (batch, length)).astype(np.int32)


def test_numpy_and_jax_compute_the_same(parameters):
    tokens = _tokens(np.random.default_rng(1), 3, 7)
    valid = np.arange(7) < np.array([[7], [4], [1]])
    by_numpy = parser_logits(parameters, CONFIG, tokens, valid, np)
    by_jax = parser_logits(
        jax.tree.map(jnp.asarray, parameters), CONFIG, jnp.asarray(tokens), jnp.asarray(valid), jnp
    )
    for name, size in OUTPUTS.items():
        assert by_numpy[name].shape == (3, 3, size)
        np.testing.assert_allclose(by_numpy[name], by_jax[name], atol=2e-6)


def test_padding_changes_nothing(parameters):
    tokens = _tokens(np.random.default_rng(2), 2, 5)
    short = parser_logits(parameters, CONFIG, tokens, np.ones((2, 5), bool), np)
    padded = np.concatenate([tokens, _tokens(np.random.default_rng(3), 2, 4)], axis=1)
    long = parser_logits(parameters, CONFIG, padded, np.arange(9)[None] < 5 + np.zeros((2, 1)), np)
    for name in OUTPUTS:
        np.testing.assert_allclose(short[name], long[name], atol=1e-6)


def test_the_order_of_words_matters(parameters):
    tokens = _tokens(np.random.default_rng(4), 1, 6)
    valid = np.ones((1, 6), bool)
    forward = parser_logits(parameters, CONFIG, tokens, valid, np)
    backward = parser_logits(parameters, CONFIG, tokens[:, ::-1], valid, np)
    assert np.abs(forward["axis"] - backward["axis"]).max() > 1e-4


def test_labels_turned_into_logits_are_the_requests_again():
    for requests in distinct_instructions(300, 0, "train").values():
        labels = to_labels([requests])
        logits = {
            name: np.eye(size)[np.maximum(labels[name][0], 0)]
            for name, size in OUTPUTS.items()
            if name != "classes"
        }
        logits["classes"] = labels["classes"][0] - 0.5
        assert to_requests(logits) == requests


def test_a_few_steps_reduce_the_loss(parameters):
    texts = distinct_instructions(32, 0, "train")
    words = sorted({word for text in texts for word in text.lower().split()})
    tokenizer = make_wordpiece(["[PAD]", "[UNK]", *words])
    config = dataclasses.replace(CONFIG, vocab_size=len(words) + 2)
    tokens, valid = encode_texts(tokenizer, list(texts), config.max_length)
    batch = {"tokens": tokens, "valid": valid, "labels": to_labels(list(texts.values()))}
    state = jax.tree.map(jnp.asarray, init_parser(config, np.random.default_rng(0)))
    step = jax.jit(jax.value_and_grad(lambda p: parser_loss(p, config, batch)))
    losses = []
    for _ in range(20):
        loss, gradients = step(state)
        losses.append(float(loss))
        state = jax.tree.map(lambda p, g: p - 0.1 * g, state, gradients)
    assert losses[-1] < 0.7 * losses[0]


def test_long_texts_are_cut_and_an_empty_text_has_a_shape():
    tokenizer = make_wordpiece(["[PAD]", "[UNK]", "a"])
    tokens, valid = encode_texts(tokenizer, ["a " * 50, ""], 10)
    assert tokens.shape == (2, 10)
    assert valid.sum(axis=1).tolist() == [10, 0]
    assert encode_texts(tokenizer, [""], 10)[0].shape == (1, 1)
    assert encode_texts(tokenizer, ["a a a"], 10, lengths=(2, 6, 9))[0].shape == (1, 6)
