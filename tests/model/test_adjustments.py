"""Changes of the predicted image whose strengths the tokens predict."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.degrade.adjust import adjust
from ditfuse_jax.model.adjustments import NUM_ADJUSTMENTS, Adjustments, adjust_tones
from ditfuse_jax.model.guided_filter import enlarge, enlarge_guided
from ditfuse_jax.model.wavelets import to_luma_chroma, to_rgb

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]

GRID = (3, 4)
SIZE = (24, 32)  # patches of 8


@pytest.fixture(scope="module")
def config(models):
    return dataclasses.replace(models.PIXEL, patch_size=8)


@pytest.fixture(scope="module")
def inputs(config):
    """Two grey images, hidden states, times and the grid."""
    random = np.random.default_rng(0)
    hidden = random.standard_normal((2, 1, 12, config.hidden_size)).astype("f4")
    time = random.standard_normal((2, 1, config.hidden_size)).astype("f4")
    grey = random.uniform(-1, 1, (2, 1, *SIZE, 1)).astype("f4")
    return np.repeat(grey, 3, axis=-1), hidden, time, GRID


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    wave = 110 + 60 * np.sin(x / 9) + 30 * np.cos(y / 5)
    return np.clip(wave[..., None] + np.array([14, 0, -18]), 0, 255).astype(np.uint8)


def _adjusted(picture: np.ndarray, **changes: float) -> np.ndarray:
    names = ("exponent", "slope", "middle", "saturation", "fine", "medium", "coarse", "smoothing")
    strengths = np.zeros((*picture.shape[:2], NUM_ADJUSTMENTS), "f4")
    for name, value in changes.items():
        strengths[..., names.index(name)] = value
    luma, chroma = to_luma_chroma(picture.astype("f4") / 127.5 - 1)
    image = to_rgb(*adjust_tones(luma, chroma, jnp.asarray(strengths)))
    return np.clip(np.rint(np.asarray(image) * 127.5 + 127.5), 0, 255)


def test_a_fresh_layer_changes_nothing(config, inputs):
    fresh = Adjustments(config, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(fresh(*inputs), inputs[0], atol=1e-6)


def test_no_strength_changes_nothing(picture):
    np.testing.assert_array_equal(_adjusted(picture), picture)


@pytest.mark.parametrize(
    ("axis", "level", "changes", "tolerance"),
    [
        ("brightness", 2, {"exponent": 0.0}, 2.0),
        ("brightness", -1, {"exponent": 0.0}, 2.0),
        ("contrast", 1, {"slope": 0.5}, 2.0),
        ("contrast", -2, {"slope": -0.65}, 2.0),
        ("saturation", -2, {"saturation": -1.0}, 1.0),
        ("saturation", 1, {"saturation": 0.5}, 2.0),
    ],
)
def test_the_operations_of_targets_are_within_reach(picture, axis, level, changes, tolerance):
    if axis == "brightness":
        # tanh bends the logarithm of the exponent.
        log = np.log({2: 0.45, -1: 1.45}[level])
        changes = {"exponent": 1.2 * np.arctanh(log / 1.2)}
    if axis == "contrast":
        luma = picture @ np.array([0.299, 0.587, 0.114])
        changes = changes | {"middle": luma.mean() / 255 - 0.5}
    target = adjust(picture, axis, level).astype(float)
    error = np.abs(_adjusted(picture, **changes) - target)
    assert error.mean() < tolerance
    assert np.abs(picture - target).mean() > 2 * tolerance


def test_gains_raise_fine_detail_and_smoothing_lowers_it(picture):
    noisy = picture + np.random.default_rng(0).integers(-6, 7, (*picture.shape[:2], 1))
    noisy = np.clip(noisy, 0, 255).astype(np.uint8)

    def roughness(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image.astype(float), axis=1)).mean())

    values = [
        roughness(_adjusted(noisy, **changes))
        for changes in ({"smoothing": 1.0}, {"smoothing": 0.5}, {}, {"fine": 1.0})
    ]
    assert values == sorted(values)
    assert values[0] < 0.85 * values[2] < values[2] < 0.8 * values[3]


def test_a_grey_image_stays_grey_whatever_the_tones_and_an_overlay_colours_it(config, inputs):
    layer = Adjustments(config, rngs=nnx.Rngs(0))
    random = np.random.default_rng(1)
    parameter = layer.output.linear.bias
    assert parameter is not None
    bias = 0.5 * random.standard_normal(parameter.shape).astype("f4")
    for coverage, coloured in ((-1.0, False), (6.0, True)):
        bias[..., NUM_ADJUSTMENTS - 1] = coverage
        parameter[...] = bias
        out = np.asarray(layer(*inputs))
        assert (np.abs(out - inputs[0]).max() > 0.05) and np.isfinite(out).all()
        assert (np.ptp(out, axis=-1).max() > 0.1) == coloured
        if not coloured:
            assert np.ptp(out, axis=-1).max() < 1e-5  # rounding


def test_gradients_are_finite_at_black_white_and_beyond():
    luma = jnp.asarray(np.linspace(-1.2, 1.2, 64, dtype="f4").reshape(1, 8, 8))
    chroma = jnp.zeros((1, 8, 8, 2))
    strengths = jnp.full((1, 8, 8, NUM_ADJUSTMENTS), 0.1)
    gradients = jax.grad(lambda s, y: jnp.sum(adjust_tones(y, chroma, s)[0] ** 2), (0, 1))(
        strengths, luma
    )
    assert all(np.isfinite(g).all() for g in gradients)


def test_a_guided_map_follows_the_edge_of_the_image_between_cells():
    guide = np.where(np.arange(32) < 18, -0.6, 0.6).astype("f4")  # 18 is inside of a cell
    guide = np.broadcast_to(guide, (32, 32))
    cells = np.where(np.arange(8) < 4, 0.0, np.where(np.arange(8) == 4, 0.5, 1.0)).astype("f4")
    cells = np.broadcast_to(cells, (8, 8))[..., None]
    step = np.where(np.arange(32) < 18, 0.0, 1.0)
    guided = np.asarray(enlarge_guided(jnp.asarray(cells), jnp.asarray(guide)))[16, :, 0]
    linear = np.asarray(enlarge(jnp.asarray(cells), (32, 32)))[16, :, 0]
    assert np.abs(guided - step).mean() < 0.8 * np.abs(linear - step).mean()
    flat = np.asarray(enlarge_guided(jnp.full((8, 8, 1), 0.3), jnp.asarray(guide)))
    np.testing.assert_allclose(flat, 0.3, atol=1e-5)
