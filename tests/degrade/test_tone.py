"""Levels of brightness and contrast, and the overlay of a class."""

import itertools

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import BRIGHTNESS, CONTRAST, TONES, adjust_tone, overlay, overlay_mask
from ditfuse_jax.degrade.overlay import COLOUR
from ditfuse_jax.prompts import SUBTASKS


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_every_tone_has_a_control_tag():
    assert set(TONES) <= set(SUBTASKS["CONTROL"])


@pytest.mark.parametrize("tag", TONES)
def test_a_tone_never_turns_the_order_of_two_pixels(tag):
    image = picture()
    before, after = image.ravel().astype(int), adjust_tone(image, tag).ravel().astype(int)
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order]) >= 0).all()


def test_brightness_climbs_with_its_levels_at_every_pixel():
    image = picture()
    levels = [
        adjust_tone(image, tag).astype(int) for tag in ("LIGHT--", "LIGHT-", "LIGHT+", "LIGHT++")
    ]
    levels.insert(2, image.astype(int))
    for darker, brighter in itertools.pairwise(levels):
        assert (darker <= brighter).all()
        assert brighter.mean() - darker.mean() > 15  # far enough apart to be distinguished
    assert set(BRIGHTNESS) == {"LIGHT--", "LIGHT-", "LIGHT+", "LIGHT++"}


def test_contrast_spreads_and_gathers_about_the_mean():
    image = (picture() // 2 + 64).astype(np.uint8)
    more, less = (adjust_tone(image, tag).astype(float) for tag in CONTRAST)
    assert more.std() > 1.3 * image.std() > 1.3 * 1.3 * less.std()
    assert abs(more.mean() - image.mean()) < 2
    assert abs(less.mean() - image.mean()) < 2


def test_an_overlay_is_read_back_exactly_beside_its_scene():
    for seed in range(10):
        image = picture(seed)
        where = np.random.default_rng(seed).random((40, 50)) < 0.3
        np.testing.assert_array_equal(overlay_mask(overlay(image, where), image), where)


def colours(*axes):
    """Every combination of three channels' values, `(1, N, 3)`."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3).astype(np.uint8)


@pytest.mark.parametrize(
    "scene",
    [
        colours(*[range(0, 256, 5)] * 3),
        colours(range(225, 256), range(31), range(170, 231)),  # around the overlay's colour
    ],
    ids=["everywhere", "near the colour"],
)
def test_an_overlay_on_any_colour_that_it_changes_is_read_back_exactly(scene):
    where = np.random.default_rng(0).random(scene.shape[:2]) < 0.5
    shown = overlay(scene, where)
    own = (scene == COLOUR).all(-1)
    changed = (overlay(scene, ~own) != scene).any(-1)
    np.testing.assert_array_equal(changed, ~own)  # it changes every other colour
    np.testing.assert_array_equal(overlay_mask(shown, scene)[~own], where[~own])


@pytest.mark.parametrize("covered", [True, False])
def test_a_pixel_of_the_overlay_s_colour_is_decided_by_its_neighbours(covered):
    scene = np.full((9, 9, 3), 90, np.uint8)
    scene[4, 4] = COLOUR
    where = np.full((9, 9), covered)
    np.testing.assert_array_equal(overlay_mask(overlay(scene, where), scene), where)


def coarse(seed, shape=(96, 128)):
    """A scene of patches, one of them nearly of the overlay's colour, and a mask."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    small[2, 3] = np.add(COLOUR, (-6, 5, 4))
    scene = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_NEAREST)
    mask = cv2.resize(rng.random((3, 4)), shape[::-1], interpolation=cv2.INTER_CUBIC) > 0.5
    return scene, mask


def agreement(read, where):
    return (read & where).sum() / (read | where).sum()


@pytest.mark.parametrize("seed", range(4))
def test_an_overlay_survives_jpeg(seed):
    scene, where = coarse(seed)
    _, data = cv2.imencode(".jpg", overlay(scene, where), [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert agreement(overlay_mask(cv2.imdecode(data, cv2.IMREAD_COLOR), scene), where) > 0.97


@pytest.mark.parametrize("seed", range(4))
def test_an_overlay_on_a_poor_picture_of_the_scene_is_read_less_well_but_not_lost(seed):
    scene, where = coarse(seed)
    noise = np.random.default_rng(seed).standard_normal(scene.shape)
    found = []
    for strength in (0, 12, 24, 48):
        poor = cv2.GaussianBlur(overlay(scene, where), (3, 3), 0) * 0.93 + strength * noise
        found.append(agreement(overlay_mask(np.clip(poor, 0, 255).astype(np.uint8), scene), where))
    assert found[0] > 0.97
    assert found[1] > 0.93
    assert found[3] > 0.6
    assert found == sorted(found, reverse=True)


def test_hardly_anything_is_read_where_a_poor_picture_has_no_overlay():
    for seed in range(4):
        scene, _ = coarse(seed)
        noise = 12 * np.random.default_rng(seed).standard_normal(scene.shape)
        poor = np.clip(cv2.GaussianBlur(scene, (3, 3), 0) * 0.93 + noise, 0, 255).astype(np.uint8)
        assert overlay_mask(poor, scene).mean() < 0.02


def test_an_overlay_is_read_without_its_scene_where_colours_are_ordinary():
    grey = np.random.default_rng(0).integers(20, 220, (40, 50, 1), dtype=np.uint8).repeat(3, 2)
    where = np.zeros((40, 50), bool)
    where[10:30, 5:25] = True
    np.testing.assert_array_equal(overlay_mask(overlay(grey, where)), where)
    assert not overlay_mask(grey).any()


def test_nothing_overlaid_is_nothing_changed():
    image = picture()
    np.testing.assert_array_equal(overlay(image, np.zeros((40, 50), bool)), image)
