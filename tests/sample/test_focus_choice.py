"""Multi-focus fusion that chooses one source for every pixel."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.sample import focus_choice
from ditfuse_jax.sample.focus_choice import choose_focus


def _texture(height: int, width: int, depth: int = 8, seed: int = 0) -> np.ndarray:
    largest = 2**depth - 1
    values = np.random.default_rng(seed).integers(0, largest + 1, (height // 4, width // 4, 3))
    dtype = np.uint8 if depth == 8 else np.uint16
    return np.repeat(np.repeat(values.astype(dtype), 4, axis=0), 4, axis=1)


def _blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 4.0)


def _pair(sharp: np.ndarray) -> list[np.ndarray]:
    """Two focuses: the first is sharp on the left, the second on the right."""
    middle, blurred = sharp.shape[1] // 2, _blurred(sharp)
    left, right = sharp.copy(), sharp.copy()
    left[:, middle:], right[:, :middle] = blurred[:, middle:], blurred[:, :middle]
    return [left, right]


def _mixed(sharp: np.ndarray) -> np.ndarray:
    """What a fusion that mixes gives: three quarters of the detail."""
    mixed = 0.75 * sharp.astype(np.float32) + 0.25 * _blurred(sharp)
    return np.rint(mixed).astype(sharp.dtype)


@pytest.mark.parametrize("depth", [8, 16])
def test_pixels_away_from_borders_are_exactly_those_of_the_sharp_source(depth):
    sharp = _texture(96, 160, depth)
    chosen = choose_focus(_mixed(sharp), _pair(sharp))
    assert chosen.dtype == sharp.dtype
    np.testing.assert_array_equal(chosen[:, :60], sharp[:, :60])
    np.testing.assert_array_equal(chosen[:, 100:], sharp[:, 100:])


def test_of_three_sources_each_is_chosen_where_it_is_sharp():
    sharp = _texture(96, 240)
    blurred = _blurred(sharp)
    sources = []
    for k in range(3):
        source = blurred.copy()
        source[:, 80 * k : 80 * (k + 1)] = sharp[:, 80 * k : 80 * (k + 1)]
        sources.append(source)
    chosen = choose_focus(_mixed(sharp), sources)
    for columns in (slice(0, 60), slice(100, 140), slice(180, 240)):
        np.testing.assert_array_equal(chosen[:, columns], sharp[:, columns])


def test_a_small_island_that_is_not_sharper_is_given_to_what_surrounds_it():
    sharp = _texture(320, 320)
    left, right = _pair(sharp)
    misled = _mixed(sharp)
    island = slice(100, 112), slice(60, 72)  # 144 pixels, below .2 % of the image
    misled[island] = right[island]
    result = choose_focus(misled, [left, right])

    def error(image: np.ndarray) -> float:
        return float(np.abs(image[island].astype(float) - sharp[island]).mean())

    assert error(result) < error(misled) / 3


def test_a_small_object_in_focus_is_kept():
    background, object_ = _texture(320, 320), _texture(320, 320, seed=1)
    sharp = background.copy()
    place = slice(100, 116), slice(60, 76)  # 256 pixels, below .2 % of the image
    sharp[place] = object_[place]
    near = _blurred(background)
    near[place] = object_[place]
    far = background.copy()
    far[place] = _blurred(object_)[place]
    inside = slice(104, 112), slice(64, 72)

    def error(image: np.ndarray) -> float:
        return float(np.abs(image[inside].astype(float) - sharp[inside]).mean())

    assert error(choose_focus(_mixed(sharp), [near, far])) < error(_mixed(sharp)) / 10


def test_where_no_source_is_clearly_nearer_the_fused_pixels_stay():
    image = _texture(64, 64)
    np.testing.assert_array_equal(choose_focus(_mixed(image), [image, image]), _mixed(image))
    rng = np.random.default_rng(0)
    noisy = [np.rint(120 + rng.normal(0, 2, (96, 96, 3))).astype(np.uint8) for _ in range(2)]
    mean = np.rint(np.mean(noisy, axis=0)).astype(np.uint8)
    unchanged = (choose_focus(mean, noisy) == mean).mean()
    assert unchanged > 0.9


def test_an_8_bit_source_beside_a_16_bit_one_keeps_its_values():
    sharp = _texture(96, 160)
    left, right = _pair(sharp)
    deep = right.astype(np.uint16) * 257
    chosen = choose_focus(_mixed(sharp.astype(np.uint16) * 257), [left, deep])
    np.testing.assert_array_equal(chosen[:, :60], sharp[:, :60].astype(np.uint16) * 257)


def test_strips_and_a_reduced_map_of_decisions_change_nothing_away_from_borders(monkeypatch):
    sharp = _texture(192, 320)
    whole = choose_focus(_mixed(sharp), _pair(sharp))
    monkeypatch.setattr(focus_choice, "_STRIP", 50)
    np.testing.assert_array_equal(choose_focus(_mixed(sharp), _pair(sharp)), whole)
    monkeypatch.setattr(focus_choice, "_DECISION_SIDE", 100)
    reduced = choose_focus(_mixed(sharp), _pair(sharp))
    np.testing.assert_array_equal(reduced[:, :130], sharp[:, :130])
    np.testing.assert_array_equal(reduced[:, 190:], sharp[:, 190:])


def test_strips_of_a_large_image_change_nothing(monkeypatch):
    sharp = _texture(900, 2600)  # smoothed four times as much
    monkeypatch.setattr(focus_choice, "_STRIP", 900)
    whole = choose_focus(_mixed(sharp), _pair(sharp))
    monkeypatch.setattr(focus_choice, "_STRIP", 250)
    np.testing.assert_array_equal(choose_focus(_mixed(sharp), _pair(sharp)), whole)


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (17, 2)])
def test_any_size_works(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    other = 255 - image
    result = choose_focus(image, [image, other])
    assert result.shape == image.shape
    assert (result >= np.minimum(image, other)).all()
    assert (result <= np.maximum(image, other)).all()
