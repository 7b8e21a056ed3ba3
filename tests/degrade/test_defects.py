"""Defects of whole images."""

import numpy as np
import pytest

from ditfuse_jax.degrade.defects import IMAGE_DEFECTS, apply_defect
from ditfuse_jax.degrade.simulated_infrared import at_night, simulated_infrared
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import DEFECTS
from ditfuse_jax.tasks.segmentation import STREET_CLASSES


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :96]
    wave = 128 + 60 * np.sin(x / 5) + 40 * np.cos(y / 7)
    shift = rng.integers(-20, 20, 3)
    return np.clip(wave[..., None] + shift, 0, 255).astype(np.uint8)


def _error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.square(one.astype(float) - other).mean())


def test_every_defect_that_can_be_requested_exists():
    assert set(IMAGE_DEFECTS) >= set(DEFECTS)


@pytest.mark.parametrize("name", sorted({*DEFECTS, "rainy", "overexposed", "underexposed"}))
def test_a_stronger_defect_is_farther_from_the_image(name: str, image: np.ndarray):
    errors = []
    for strength in (0.0, 0.5, 1.0):
        draws = [apply_defect(image, name, strength, np.random.default_rng(k)) for k in range(6)]
        assert all(d.dtype == np.uint8 and d.shape == image.shape for d in draws)
        errors.append(np.mean([_error(draw, image) for draw in draws]))
    assert 0 < errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("name", sorted({*DEFECTS, "rainy", "overexposed", "underexposed"}))
def test_a_defect_depends_on_the_generator_alone_and_keeps_its_input(name: str, image: np.ndarray):
    before = image.copy()
    first, again = (apply_defect(image, name, 0.7, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)


def test_a_grey_image_stays_grey_but_for_a_colour_cast(image: np.ndarray):
    grey = np.repeat(image[..., :1], 3, axis=2)
    for name in IMAGE_DEFECTS:
        damaged = apply_defect(grey, name, 1.0, np.random.default_rng(0)).astype(int)
        assert (np.ptp(damaged, axis=-1).max() == 0) == (name != "cast"), name


def test_a_cast_keeps_the_mean_brightness(image: np.ndarray):
    luma = np.array([0.299, 0.587, 0.114])
    dim = (image // 2).astype(np.uint8)  # nothing clips
    for seed in range(5):
        cast = apply_defect(dim, "cast", 1.0, np.random.default_rng(seed))
        assert abs((cast @ luma).mean() - (dim @ luma).mean()) < 0.02 * dim.mean() + 1


def test_people_are_warmer_than_the_sky_in_simulated_infrared():
    names = [names[0] for names in STREET_CLASSES]
    labels = np.zeros((40, 40), np.uint8)
    labels[20:] = names.index("pedestrian")
    image = np.full((40, 40, 3), 120, np.uint8)
    for seed in range(5):
        thermal = simulated_infrared(image, labels, names, np.random.default_rng(seed))
        assert np.ptp(thermal.astype(int), axis=-1).max() == 0
        assert thermal[25:].mean() > thermal[:15].mean() + 80


def test_the_night_is_darker(image: np.ndarray):
    for seed in range(5):
        assert at_night(image, np.random.default_rng(seed)).mean() < 0.8 * image.mean()


def test_an_unknown_defect_is_refused(image: np.ndarray):
    with pytest.raises(UserError, match="rain"):
        apply_defect(image, "rain", 1.0, np.random.default_rng(0))
