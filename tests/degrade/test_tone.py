"""Levels of brightness and contrast, and the overlay of a class."""

import itertools

import numpy as np
import pytest

from ditfuse_jax.degrade import BRIGHTNESS, CONTRAST, TONES, adjust, overlay, read_overlay
from ditfuse_jax.prompts import SUBTASKS


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_every_control_tag_has_its_tone():
    assert set(TONES) == set(SUBTASKS["CONTROL"])


@pytest.mark.parametrize("tag", TONES)
def test_a_tone_never_turns_the_order_of_two_pixels(tag):
    image = picture()
    before, after = image.ravel().astype(int), adjust(image, tag).ravel().astype(int)
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order]) >= 0).all()


def test_brightness_climbs_with_its_levels_at_every_pixel():
    image = picture()
    levels = [adjust(image, tag).astype(int) for tag in ("LIGHT--", "LIGHT-", "LIGHT+", "LIGHT++")]
    levels.insert(2, image.astype(int))
    for darker, brighter in itertools.pairwise(levels):
        assert (darker <= brighter).all()
        assert brighter.mean() - darker.mean() > 15  # far enough apart to be told
    assert set(BRIGHTNESS) == {"LIGHT--", "LIGHT-", "LIGHT+", "LIGHT++"}


def test_contrast_spreads_and_gathers_about_the_mean():
    image = (picture() // 2 + 64).astype(np.uint8)
    more, less = (adjust(image, tag).astype(float) for tag in CONTRAST)
    assert more.std() > 1.3 * image.std() > 1.3 * 1.3 * less.std()
    assert abs(more.mean() - image.mean()) < 2
    assert abs(less.mean() - image.mean()) < 2


def test_an_overlay_is_read_back_exactly_beside_its_scene():
    for seed in range(10):
        image = picture(seed)
        where = np.random.default_rng(seed).random((40, 50)) < 0.3
        np.testing.assert_array_equal(read_overlay(overlay(image, where), image), where)


def test_an_overlay_is_read_without_its_scene_where_colours_are_ordinary():
    grey = np.random.default_rng(0).integers(20, 220, (40, 50, 1), dtype=np.uint8).repeat(3, 2)
    where = np.zeros((40, 50), bool)
    where[10:30, 5:25] = True
    np.testing.assert_array_equal(read_overlay(overlay(grey, where)), where)
    assert not read_overlay(grey).any()


def test_nothing_overlaid_is_nothing_changed():
    image = picture()
    np.testing.assert_array_equal(overlay(image, np.zeros((40, 50), bool)), image)
