"""The head that blends the sources' pixels with a generated image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.heads import make_head
from ditfuse_jax.model.heads.blend import BlendHead

pytestmark = pytest.mark.usefixtures("exact_products")

DRAWS = 2


@pytest.fixture(scope="module")
def random_head(models):
    """A blend head in which no parameter is zero."""
    head = make_head(models.PIXEL, rngs=nnx.Rngs(0))
    random = np.random.default_rng(1)
    for _, parameter in nnx.to_flat_state(nnx.state(head)):
        parameter[...] = random.standard_normal(parameter.shape).astype("f4")
    return head


@pytest.mark.medium
def test_a_fresh_blend_head_predicts_the_mean_of_the_present_sources_and_grey(models, inputs):
    _, _, sources, _, _ = inputs
    prediction = make_head(models.PIXEL, rngs=nnx.Rngs(0))(*inputs)
    both = (sources[0, 0] + sources[0, 1] + 0.0) / 3
    only = (sources[1, 0] + 0.0) / 2
    for draw in range(DRAWS):
        np.testing.assert_allclose(prediction[0, draw], both, atol=1e-6)
        np.testing.assert_allclose(prediction[1, draw], only, atol=1e-6)


def test_an_absent_source_has_no_influence(random_head, inputs):
    hidden, time, sources, valid, grid = inputs
    other = sources.copy()
    other[1, 1] = 100.0
    before = random_head(hidden, time, sources, valid, grid)
    np.testing.assert_array_equal(random_head(hidden, time, other, valid, grid), before)
    assert not np.allclose(random_head(hidden, time, other, np.ones_like(valid), grid), before)


def test_every_pixel_is_a_weighted_mean_of_the_sources_and_a_generated_image(random_head, inputs):
    hidden, time, sources, valid, grid = inputs
    generated = random_head(hidden, time, np.zeros_like(sources), valid, grid)
    # A source of ones with all others zero gives its weight.
    weights = [
        random_head(hidden, time, _only(sources, index), valid, grid) - generated
        for index in range(2)
    ]
    white = np.sum(weights, axis=0)
    assert white.min() > -1e-5 and white.max() < 1 + 1e-5
    # Weights are equal for all channels of a pixel and differ between pixels.
    np.testing.assert_allclose(white[..., :1].repeat(3, -1), white, atol=1e-5)
    assert np.std(white[..., 0], axis=(2, 3)).min() > 1e-3
    blended = sum(w * sources[:, None, i] for i, w in enumerate(weights)) + generated
    prediction = random_head(hidden, time, sources, valid, grid)
    np.testing.assert_allclose(prediction, blended, atol=1e-4)


def test_a_source_of_weight_one_is_copied_exactly(models, inputs):
    _, _, sources, _, _ = inputs
    head = make_head(models.PIXEL, rngs=nnx.Rngs(0))
    assert isinstance(head, BlendHead)
    parameter = head.output.linear.bias
    assert parameter is not None
    bias = np.zeros(parameter.shape, "f4")
    bias[..., 0] = 200.0  # the first source's logit
    bias[..., -models.PIXEL.channels :] = 5.0  # the generated image
    parameter[...] = bias
    prediction = head(*inputs)
    np.testing.assert_array_equal(prediction, sources[:, :1].repeat(DRAWS, 1))


def test_a_bfloat16_model_blends_pixels_in_full_precision(models, inputs):
    """Accelerators round the operands of float32 products to bfloat16 or TF32 by default."""
    config = dataclasses.replace(models.PIXEL, dtype="bfloat16")
    head = make_head(config, rngs=nnx.Rngs(0))
    with jax.default_matmul_precision("default"):
        *arrays, grid = inputs
        jaxpr = jax.make_jaxpr(lambda *x: head(*x, grid))(*arrays)
    exact = (jax.lax.Precision.HIGHEST,) * 2
    products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert len(products) >= 2  # the network's own, in bfloat16
    for equation in products:
        if equation.invars[0].aval.dtype == jnp.float32:
            assert equation.params["precision"] == exact


def _only(sources, index):
    ones = np.zeros_like(sources)
    ones[:, index] = 1.0
    return ones
