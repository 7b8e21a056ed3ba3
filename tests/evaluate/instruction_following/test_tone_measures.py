"""Measures of control: order of levels, matching of histograms, structural similarity."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditfuse_jax.degrade import TONES, adjust_tone
from ditfuse_jax.evaluate.instruction_following.tone_measures import (
    brightness,
    contrast,
    kendall_tau,
    luminance,
    match_histogram,
    ordered_neighbours,
    psnr,
    squared_error,
    strictly_ordered,
    structural_similarity,
)
from ditfuse_jax.evaluate.metrics import CLEAN_METRICS, compute_metrics


def picture(seed=0, low=0, high=256):
    """Smooth areas and edges."""
    rng = np.random.default_rng(seed)
    small = rng.integers(low, high, (6, 7, 3)).astype(np.float64)
    rows, columns = np.linspace(0, 4.99, 48), np.linspace(0, 5.99, 56)
    smooth = small[rows.astype(int)][:, columns.astype(int)]
    share = (columns % 1)[None, :, None]
    return np.rint((1 - share) * smooth + share * np.roll(smooth, 1, 0)).astype(np.uint8)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=7))
def test_tau_counts_each_inversion_twice_and_ties_once(values):
    pairs = list(itertools.combinations(values, 2))
    inversions = sum(a > b for a, b in pairs)
    ties = sum(a == b for a, b in pairs)
    assert kendall_tau(values) == pytest.approx(1 - (2 * inversions + ties) / len(pairs))


@given(st.lists(st.floats(0, 255), min_size=3, max_size=6, unique=True))
def test_strictly_ordered_values_have_all_neighbours_ordered_and_a_tau_of_1(values):
    up = sorted(values)
    assert strictly_ordered(up)
    assert ordered_neighbours(up) == kendall_tau(up) == 1
    assert not strictly_ordered(up[::-1])
    assert ordered_neighbours(up[::-1]) == 0
    assert kendall_tau(up[::-1]) == -1
    assert strictly_ordered(values) == (ordered_neighbours(values) == 1)


def test_equal_values_are_not_ordered():
    assert not strictly_ordered([1, 1, 2])
    assert ordered_neighbours([1, 1, 2]) == 0.5
    assert kendall_tau([3, 3, 3]) == 0


def test_brightness_and_contrast_of_known_pictures():
    checks = np.indices((8, 8)).sum(0)[..., None] % 2 * np.array([100, 100, 100])
    assert brightness(checks.astype(np.uint8)) == 50
    assert contrast(checks.astype(np.uint8)) == 50
    flat = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    assert (brightness(flat), contrast(flat)) == (76, 0)


@given(st.permutations(range(128)), st.integers(0, 2**32 - 1))
def test_a_strictly_monotone_curve_is_undone_exactly(levels, seed):
    image = np.random.default_rng(seed).integers(0, 128, (20, 30), dtype=np.uint8)
    curve = np.cumsum(np.array(levels) % 2 + 1).astype(np.uint8)
    np.testing.assert_array_equal(match_histogram(curve[image], image), image)


@given(st.integers(0, 2**32 - 1))
def test_a_matched_image_has_the_mean_and_range_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    reference = rng.integers(50, 90, (17, 13), dtype=np.uint8)
    matched = match_histogram(image, reference)
    assert matched.mean() == pytest.approx(reference.mean(), abs=0.5)
    assert reference.min() <= matched.min() <= matched.max() <= reference.max()


def test_the_tone_curves_of_training_keep_the_structure():
    image = picture(low=40, high=216)
    grey = image[..., :1].repeat(3, 2)
    assert structural_similarity(image, image) == pytest.approx(1)
    for tag in TONES:
        assert structural_similarity(adjust_tone(grey, tag), grey) > 0.99, tag
        # With strong colours, a curve over each channel is not a curve over the luminance.
        assert structural_similarity(adjust_tone(image, tag), image) > 0.9, tag


def test_changes_that_no_tone_curve_explains_lower_the_similarity():
    image = picture()
    noise = np.random.default_rng(0).integers(-60, 60, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    found = [
        structural_similarity(other, image) for other in (image, noisy, image[::-1], 255 - image)
    ]
    assert found[0] > 0.999 > found[1] > 0.2
    assert max(found[2:]) < 0.5


def test_psnr_agrees_with_the_metric_and_is_infinite_for_equal_pictures():
    a, b = picture(0), picture(1)
    name, _ = CLEAN_METRICS
    assert psnr([squared_error(a, b)]) == pytest.approx(compute_metrics(a, [b], b, (name,))[name])
    assert psnr([0.0, 0.0]) == math.inf
    assert math.isnan(psnr([]))


def test_grey_is_its_own_luminance():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(luminance(np.repeat(grey[..., None], 3, 2)), grey)
