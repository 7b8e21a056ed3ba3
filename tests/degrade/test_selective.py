"""Requests about a fused image move their own axis as far as training's, and the others little."""

import numpy as np
import pytest

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS, adjust, blend, feather
from ditfuse_jax.degrade.selective import apply_axis, tone_curve
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.instruction_following.axis_measures import AXIS_MEASURES
from ditfuse_jax.pipeline import open_source

AXES = tuple(AXIS_MEASURES)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    source = open_source("samples:heldout")
    names = ("chelsea", "coffee")
    found = [source[list(source.names).index(name)][0] for name in names]
    return [np.asarray(image)[:280:2, :420:2] for image in found]


def applied(image: np.ndarray, axis: str, level: int, mask: np.ndarray | None = None) -> np.ndarray:
    weights = None if mask is None else feather(mask)
    return blend(image, apply_axis(image.astype(np.float32), axis, level, weights), weights)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("level", [-1, 1])
def test_other_axes_move_by_less_than_a_quarter_of_a_level(axis, level, photographs):
    for image in photographs:
        changed = applied(image, axis, level)
        for other in set(AXES) - {axis}:
            measure = AXIS_MEASURES[other]
            step = abs(measure(applied(image, other, 1)) - measure(applied(image, other, -1))) / 2
            assert abs(measure(changed) - measure(image)) < 0.25 * step, other


@pytest.mark.parametrize("axis", AXES)
def test_it_goes_as_far_as_the_operation_of_training(axis, photographs):
    measure = AXIS_MEASURES[axis]
    for image in photographs:
        values = [measure(image)]
        for level in (-2, -1, 1, 2):
            ours, training = (
                measure(applied(image, axis, level)),
                measure(adjust(image, axis, level)),
            )
            assert ours - values[0] == pytest.approx(training - values[0], rel=0.1, abs=0.01)
            values.append(ours)
        low, less, plain, more, high = (values[k] for k in (1, 2, 0, 3, 4))
        assert low < less < plain < more < high


def test_more_contrast_clips_less_than_a_stretch(photographs):
    for image in photographs:

        def clipped(changed):
            luma = changed.astype(np.float32) @ LUMA_WEIGHTS
            return np.mean((luma < 1) | (luma > 254))

        ours, stretch = (clipped(change(image, "contrast", 2)) for change in (applied, adjust))
        assert ours < 0.7 * stretch


@pytest.mark.parametrize("axis", ["brightness", "contrast"])
@pytest.mark.parametrize("level", [-2, 2])
def test_the_order_of_greys_and_the_hues_stay(axis, level, photographs):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(8, axis=0)
    assert (np.diff(applied(ramp, axis, level)[4, :, 0].astype(int)) >= 0).all()
    image = photographs[1]
    before, after = (
        i - (i @ LUMA_WEIGHTS)[..., None] for i in (image, applied(image, axis, level))
    )
    lengths = [np.linalg.norm(chroma, axis=-1) for chroma in (before, after)]
    coloured = (lengths[0] > 20) & (lengths[1] > 20)
    cosines = (before * after).sum(-1)[coloured] / (lengths[0] * lengths[1])[coloured]
    assert np.degrees(np.arccos(np.percentile(cosines, 5))) < 4


@pytest.mark.parametrize("axis", ["brightness", "contrast"])
def test_in_a_region_the_other_axes_of_the_region_stay(axis, photographs):
    image = photographs[0]
    mask = np.zeros(image.shape[:2], bool)
    mask[20:100, 30:150] = True
    inside = (slice(20, 100), slice(30, 150))
    changed = applied(image, axis, 1, mask)
    np.testing.assert_array_equal(changed[120:], image[120:])
    other = "contrast" if axis == "brightness" else "brightness"
    moved, stayed = (
        AXIS_MEASURES[name](changed[inside]) - AXIS_MEASURES[name](image[inside])
        for name in (axis, other)
    )
    assert moved > 4 * abs(stayed)


def test_the_curve_keeps_black_and_white_and_is_the_identity_without_strength():
    levels = np.linspace(0, 255, 50)
    np.testing.assert_allclose(tone_curve(levels, 1.0, 0.0), levels, atol=1e-3)
    for exponent, offset in ((0.5, 2.0), (3.0, -1.0), (1.0, 8.0)):
        curve = tone_curve(levels, exponent, offset)
        assert curve[0] == 0 and curve[-1] == pytest.approx(255) and (np.diff(curve) > 0).all()


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_flat_image_is_no_error_and_stays_flat_and_grey(axis, grey):
    for level in (-2, -1, 1, 2):
        changed = applied(np.full((5, 7, 3), grey, np.uint8), axis, level)
        assert (changed == changed[0, 0, 0]).all()
        if axis == "brightness" and grey == 128:
            assert (changed[0, 0, 0] > grey) == (level > 0)


def test_an_unknown_axis_is_refused():
    with pytest.raises(UserError, match="glow"):
        apply_axis(np.zeros((2, 2, 3), np.float32), "glow", 1)
