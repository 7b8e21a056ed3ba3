"""The pooling of the prompt to a vector for the target tokens."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.prompt_pooling import PromptPooling

pytestmark = [pytest.mark.usefixtures("exact_products"), pytest.mark.medium]


@pytest.fixture(scope="module")
def pool(models):
    """A pooling layer in which no parameter is zero."""
    pool = PromptPooling(models.PIXEL, rngs=nnx.Rngs(0))
    random = np.random.default_rng(1)
    for _, parameter in nnx.to_flat_state(nnx.state(pool)):
        parameter[...] = 0.5 * random.standard_normal(parameter.shape).astype("f4")
    return pool


@pytest.fixture(scope="module")
def texts(models):
    """Two prompts of 6 tokens; the second has 4."""
    random = np.random.default_rng(2)
    texts = random.standard_normal((2, 6, models.PIXEL.hidden_size)).astype("f4")
    return texts, np.arange(6) < np.array([[6], [4]])


def test_padding_is_ignored(pool, texts):
    embedded, valid = texts
    other = np.where(valid[..., None], embedded, 1e6).astype("f4")
    np.testing.assert_array_equal(pool(other, valid), pool(embedded, valid))
    short = pool(embedded[1:, :4], valid[1:, :4])
    np.testing.assert_allclose(pool(embedded, valid)[1:], short, atol=1e-5)


def test_the_order_of_tokens_does_not_matter_but_their_values_do(pool, texts):
    embedded, valid = texts
    once = pool(embedded, valid)
    order = [3, 1, 0, 2, 4, 5]
    np.testing.assert_allclose(pool(embedded[:, order], valid[:, order]), once, atol=1e-5)
    other = embedded.copy()
    other[:, 2] = -other[:, 2]
    assert np.abs(pool(other, valid) - once).max(axis=1).min() > 1e-2


def test_a_fresh_pooling_layer_averages_the_tokens(models, texts):
    fresh = PromptPooling(models.PIXEL, rngs=nnx.Rngs(0))
    embedded, valid = texts
    values = np.asarray(fresh.value(fresh.norm(embedded))).reshape(*embedded.shape)
    for row, count in enumerate((6, 4)):
        mean = values[row, :count].mean(axis=0)
        expected = fresh.out(mean / (1 + np.exp(-mean)))
        np.testing.assert_allclose(fresh(embedded, valid)[row], expected, atol=1e-5)


def test_the_prompt_changes_every_target_token_without_attention(models):
    """Attention's output is zero here, so the prompt has an effect through pooling only."""
    outputs = {}
    for pooled in (True, False):
        config = dataclasses.replace(models.PIXEL, pooled_prompt=pooled)
        model = models.build(config)
        model.transformer.layers.self_attn.o_proj.kernel[...] *= 0
        condition = models.condition(config)
        noisy, t = models.targets(config)
        changed = condition._replace(tokens=(condition.tokens + 5) % config.vocab_size)
        outputs[pooled] = [np.asarray(model(one, noisy, t)) for one in (condition, changed)]
    np.testing.assert_array_equal(*outputs[False])
    difference = np.abs(outputs[True][0] - outputs[True][1])
    batch, draws, height, width, channels = difference.shape
    side = config.patch_size
    tokens = difference.reshape(
        batch, draws, height // side, side, width // side, side, channels
    ).max(axis=(3, 5, 6))
    assert tokens.min() > 1e-3
