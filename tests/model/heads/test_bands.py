"""The head that fuses frequency bands, and the wavelet decomposition."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.heads import make_head
from ditfuse_jax.model.heads.bands import BandsHead
from ditfuse_jax.model.wavelets import decompose, smooth, to_luma_chroma, to_rgb

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]

GRID = (3, 4)
SIZE = (24, 32)  # patches of 8


@pytest.fixture(scope="module")
def config(models):
    return dataclasses.replace(models.PIXEL, patch_size=8, head="bands")


@pytest.fixture(scope="module")
def inputs(config):
    """Hidden states, times, three sources (row 1 lacks the last), validity and grid."""
    random = np.random.default_rng(0)
    hidden = random.standard_normal((2, 2, 12, config.hidden_size)).astype("f4")
    time = random.standard_normal((2, 2, config.hidden_size)).astype("f4")
    sources = random.uniform(-1, 1, (2, 3, *SIZE, 3)).astype("f4")
    return hidden, time, sources, np.array([[True, True, True], [True, True, False]]), GRID


@pytest.fixture(scope="module")
def random_head(config):
    """A head in which no parameter is zero."""
    head = make_head(config, rngs=nnx.Rngs(0))
    random = np.random.default_rng(1)
    for _, parameter in nnx.to_flat_state(nnx.state(head)):
        parameter[...] = 0.3 * random.standard_normal(parameter.shape).astype("f4")
    return head


def test_bands_sum_to_the_image_and_each_has_another_scale():
    image = np.random.default_rng(0).standard_normal((2, 40, 56)).astype("f4")
    bands = decompose(image)
    np.testing.assert_allclose(sum(bands), image, atol=1e-5)
    jumps = [float(np.abs(np.diff(band)).mean() / np.abs(band).mean()) for band in bands]
    assert jumps == sorted(jumps, reverse=True) and jumps[0] > 4 * jumps[-1]


def test_smoothing_does_not_change_flat_images_and_their_borders():
    flat = np.full((1, 5, 3), 0.7, "f4")  # smaller than the filter
    np.testing.assert_allclose(smooth(flat, 8), flat, rtol=1e-6)


def test_to_rgb_inverts_to_luma_chroma():
    rgb = np.random.default_rng(0).uniform(-1, 1, (2, 4, 5, 3)).astype("f4")
    np.testing.assert_allclose(to_rgb(*to_luma_chroma(rgb)), rgb, atol=1e-6)


def test_a_fresh_head_predicts_nearly_the_mean_of_the_present_sources(config, inputs):
    _, _, sources, _, _ = inputs
    prediction = make_head(config, rngs=nnx.Rngs(0))(*inputs)
    assert prediction.shape == (2, 2, *SIZE, 3)
    for draw in range(2):
        np.testing.assert_allclose(prediction[0, draw], sources[0].mean(0), atol=0.08)
        np.testing.assert_allclose(prediction[1, draw], sources[1, :2].mean(0), atol=0.08)


def test_a_generated_image_of_low_weight_has_no_effect(config, inputs):
    _, _, sources, _, _ = inputs
    head = make_head(config, rngs=nnx.Rngs(0))
    assert isinstance(head, BandsHead) and head.output.linear.bias is not None
    bias = np.zeros(head.output.linear.bias.shape, "f4")
    bias[..., -4:-1] = 5.0  # the generated image
    bias[..., -1] = -200.0  # its logit
    head.output.linear.bias[...] = bias
    prediction = head(*inputs)
    np.testing.assert_allclose(prediction[0, 0], sources[0].mean(0), atol=1e-5)


def test_an_absent_source_has_no_influence(random_head, inputs):
    hidden, time, sources, valid, grid = inputs
    other = sources.copy()
    other[1, 2] = 100.0
    before = random_head(hidden, time, sources, valid, grid)
    np.testing.assert_array_equal(random_head(hidden, time, other, valid, grid), before)
    seen = random_head(hidden, time, sources, np.ones_like(valid), grid)
    assert np.abs(seen[1] - before[1]).max() > 1e-2


def test_without_any_source_the_generated_image_remains(random_head, inputs):
    hidden, time, sources, valid, grid = inputs
    generated = random_head(hidden, time, sources, np.zeros_like(valid), grid)
    assert np.isfinite(generated).all() and generated.std() > 1e-3


def test_the_order_of_the_sources_does_not_matter(random_head, inputs):
    hidden, time, sources, _, grid = inputs
    valid = np.ones((2, 3), bool)
    one = random_head(hidden, time, sources, valid, grid)
    other = random_head(hidden, time, sources[:, [2, 0, 1]], valid, grid)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_generated_image_shows_no_borders_of_patches(random_head, inputs):
    """Hidden states differ between patches; sources are flat."""
    hidden, time, sources, valid, grid = inputs
    flat = np.full_like(sources, 0.2)
    image = np.asarray(random_head(hidden, time, flat, valid, grid))
    steps = np.abs(np.diff(image, axis=3))
    borders, inside = steps[:, :, :, 7::8], np.delete(steps, np.s_[7::8], axis=3)
    assert borders.mean() < 1.5 * inside.mean()


@pytest.mark.slow
def test_every_parameter_gets_a_gradient(config, inputs):
    head = make_head(config, rngs=nnx.Rngs(0))
    graph, parameters = nnx.split(head)
    hidden, time, sources, valid, grid = inputs

    def loss(parameters):
        return (nnx.merge(graph, parameters)(hidden, time, sources, valid, grid) ** 2).mean()

    for _ in range(2):  # layers before zero-initialised ones get gradients from the second step on
        gradients = jax.grad(loss)(parameters)
        parameters = jax.tree.map(lambda p, g: p - 0.5 * g, parameters, gradients)
    for path, gradient in nnx.to_flat_state(jax.grad(loss)(parameters)):
        assert np.abs(gradient[...]).max() > 0, path
