import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditfuse_jax.degrade import DEGRADATIONS


def picture(height=48, width=40, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 2)


def grey(level, side=128):
    return np.full((side, side, 3), level, np.uint8)


def drawn(name, block, seeds):
    return [DEGRADATIONS[name](block, np.random.default_rng(seed)) for seed in range(seeds)]


@pytest.mark.parametrize("name", DEGRADATIONS)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_block_keeps_shape_and_type_and_the_input_stays_as_it_was(name, height, width, seed):
    block = picture(height, width)
    degraded, params = DEGRADATIONS[name](block, np.random.default_rng(seed))
    assert degraded.shape == block.shape and degraded.dtype == np.uint8
    assert not np.shares_memory(degraded, block)
    np.testing.assert_array_equal(block, picture(height, width))
    assert all(type(value) in (int, float, str) for value in params.values())


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(name):
    first, again = (DEGRADATIONS[name](picture(), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    outcomes = {degraded.tobytes() for degraded, _ in drawn(name, picture(), 12)}
    assert len(outcomes) > 3


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_block_inside_an_image_is_degraded_as_if_it_stood_alone(name):
    image = picture(64, 64)
    image[:16] = image[:, :16] = 255  # a blur that used pixels outside would mix these in
    inside = DEGRADATIONS[name](image[16:48, 16:48], np.random.default_rng(3))[0]
    alone = DEGRADATIONS[name](image[16:48, 16:48].copy(), np.random.default_rng(3))[0]
    np.testing.assert_array_equal(inside, alone)


def test_a_mask_is_uniform_random_bytes_that_know_nothing_of_the_block():
    masked, _ = DEGRADATIONS["mask"](grey(7, 256), np.random.default_rng(0))
    counts = np.bincount(masked.ravel(), minlength=256)
    expected = masked.size / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 255 - 5 * np.sqrt(510) < chi_square < 255 + 5 * np.sqrt(510)
    neighbours = masked.astype(float) - masked.mean()
    assert abs((neighbours[:, 1:] * neighbours[:, :-1]).mean() / neighbours.var()) < 0.02
    assert abs((neighbours[..., 0] * neighbours[..., 1]).mean() / neighbours.var()) < 0.02
    other, _ = DEGRADATIONS["mask"](grey(250, 256), np.random.default_rng(0))
    np.testing.assert_array_equal(masked, other)


@pytest.mark.parametrize("name", ["gaussian_blur", "box_blur", "median_blur"])
def test_blur_kernels_are_all_the_odd_sides_from_3_to_11(name):
    sides = [params["kernel"] for _, params in drawn(name, picture(8, 8), 200)]
    assert set(sides) == {3, 5, 7, 9, 11}
    assert min(map(sides.count, set(sides))) > 20


def test_gaussian_blur_sigma_fills_its_range():
    sigmas = [params["sigma"] for _, params in drawn("gaussian_blur", picture(8, 8), 300)]
    assert 0.8 <= min(sigmas) < 0.85 and 2.95 < max(sigmas) <= 3.0


def test_gaussian_blur_is_the_convolution_its_parameters_name():
    for blurred, params in drawn("gaussian_blur", picture(), 10):
        offsets = np.arange(params["kernel"]) - params["kernel"] // 2
        weights = np.exp(-(offsets**2) / (2 * params["sigma"] ** 2))
        weights /= weights.sum()
        pad = params["kernel"] // 2
        padded = np.pad(picture().astype(float), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        rows = np.sum([w * padded[i : i + 48] for i, w in enumerate(weights)], axis=0)
        expected = np.sum([w * rows[:, i : i + 40] for i, w in enumerate(weights)], axis=0)
        assert np.abs(blurred - expected).max() < 1


@pytest.mark.parametrize(("name", "statistic"), [("box_blur", np.mean), ("median_blur", np.median)])
def test_box_and_median_blur_are_mean_and_median_of_the_square(name, statistic):
    for blurred, params in drawn(name, picture(), 10):
        reach = params["kernel"] // 2
        square = picture()[20 - reach : 21 + reach, 20 - reach : 21 + reach]
        assert np.abs(blurred[20, 20] - statistic(square, axis=(0, 1))).max() <= 0.51


@pytest.mark.parametrize("name", ["gaussian_blur", "box_blur", "median_blur"])
def test_blur_leaves_a_flat_block_flat(name):
    for blurred, _ in drawn(name, grey(93, 20), 10):
        np.testing.assert_array_equal(blurred, grey(93, 20))


def test_gaussian_noise_has_the_recorded_deviation_and_no_bias():
    sigmas = []
    for noisy, params in drawn("gaussian_noise", grey(128), 40):
        residual = noisy.astype(float) - 128
        assert abs(residual.std() / params["sigma"] - 1) < 0.02
        assert abs(residual.mean()) < 5 * params["sigma"] / np.sqrt(residual.size)
        sigmas.append(params["sigma"])
    assert 10 <= min(sigmas) < 13 and 32 < max(sigmas) <= 35


@pytest.mark.parametrize("level", [0, 255])
def test_gaussian_noise_saturates_instead_of_wrapping_around(level):
    noisy, _ = DEGRADATIONS["gaussian_noise"](grey(level), np.random.default_rng(0))
    assert np.abs(noisy.astype(int) - level).max() < 6 * 35


def test_salt_and_pepper_changes_the_recorded_fraction_half_white_half_black():
    probabilities = []
    for noisy, params in drawn("salt_and_pepper", grey(128, 256), 40):
        hit = (noisy != 128).any(axis=2)
        share, probability = hit.mean(), params["probability"]
        assert abs(share - probability) < 5 * np.sqrt(probability / hit.size)
        white = (noisy[hit] == 255).all(axis=1)
        black = (noisy[hit] == 0).all(axis=1)
        assert (white | black).all()
        assert abs(white.mean() - 0.5) < 2.5 / np.sqrt(hit.sum())
        probabilities.append(probability)
    assert 0.01 <= min(probabilities) < 0.012 and 0.028 < max(probabilities) <= 0.03


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("blur", {"gaussian_blur", "box_blur", "median_blur"}),
        ("noise", {"gaussian_noise", "salt_and_pepper"}),
    ],
)
def test_a_family_draws_its_kinds_equally_often_and_records_the_kind(name, kinds):
    seen = [params["kind"] for _, params in drawn(name, picture(8, 8), 600)]
    assert set(seen) == kinds
    for kind in kinds:
        assert abs(seen.count(kind) / 600 - 1 / len(kinds)) < 4 * np.sqrt(0.25 / 600)


def test_low_light_darkens_every_level_and_keeps_their_order():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for dark, params in drawn("low_light", ramp, 40):
        assert 1.5 <= params["gamma"] <= 3 and 0.5 <= params["gain"] <= 1
        assert (dark <= ramp).all() and dark[0, 128, 0] < 100
        assert (np.diff(dark[0, :, 0].astype(int)) >= 0).all()


def test_colour_shift_multiplies_each_channel_by_a_separate_gain():
    for shifted, params in drawn("colour_shift", grey(100, 4), 40):
        gains = np.array([params[channel] for channel in ("red", "green", "blue")])
        assert (gains >= 0.6).all() and (gains <= 1.4).all() and len(set(gains)) == 3
        np.testing.assert_array_equal(shifted[0, 0], np.rint(100 * gains))


def test_exposure_imbalance_changes_light_both_ways_by_the_recorded_stops():
    signs = []
    for exposed, params in drawn("exposure_imbalance", grey(80, 4), 40):
        assert 0.75 <= abs(params["stops"]) <= 2.5
        linear_gain = (exposed[0, 0, 0] / 80) ** 2.2
        assert abs(np.log2(linear_gain) - params["stops"]) < 0.1
        signs.append(np.sign(params["stops"]))
    assert 10 < signs.count(1) < 30
