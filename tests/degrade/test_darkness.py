"""How strongly a photograph was darkened is found from the photograph alone, and undone."""

import numpy as np
import pytest

from ditfuse_jax.degrade.darkness import estimate_darkening, undo_darkening
from ditfuse_jax.degrade.defects import apply_defect
from ditfuse_jax.degrade.restore import RESTORATIONS, expose
from ditfuse_jax.pipeline import open_source


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    source = open_source("samples:heldout")
    photograph = np.asarray(source[list(source.names).index("chelsea")][0])[:200, :260]
    # A bright scene with a smooth sky, whose mean luma is far from that of most photographs.
    y, x = np.mgrid[:200, :260]
    street = 150 + 50 * np.sin(x / 9) * (y > 110) + 90 * (y <= 110) - 30 * (x > 200)
    return [photograph, np.clip(street[..., None] + [8, 0, -5], 0, 255).astype(np.uint8)]


def psnr(image, clean):
    return 10 * np.log10(255**2 / np.mean(np.square(image.astype(np.float64) - clean)))


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.8])
def test_the_strength_is_found_and_the_brightness_of_the_scene_with_it(strength, scenes):
    for clean in scenes:
        rng = np.random.default_rng(0)
        dark = apply_defect(clean, "dark", strength, rng).astype(np.float32)
        found = estimate_darkening(dark)
        assert found == pytest.approx(strength, abs=0.15)
        restored = RESTORATIONS.find("dark")(dark)
        assert abs(restored.mean() - clean.mean()) < 15
        assert psnr(restored, clean) > psnr(expose(dark, 0.44), clean) + 3


def test_the_noise_about_black_is_no_light():
    rng = np.random.default_rng(0)
    black = np.zeros((96, 96, 3), np.uint8)
    dark = apply_defect(black, "dark", 0.8, rng).astype(np.float32)
    assert np.median(undo_darkening(dark, 0.8)) < 30


def test_without_the_noise_of_low_light_an_image_is_exposed_as_usual(scenes):
    night = (255 * (scenes[0] / 255.0) ** 3).astype(np.float32)
    assert estimate_darkening(np.full((96, 96, 3), 40, np.float32)) is None
    assert estimate_darkening(night[:16, :16]) is None
    flat = np.zeros((96, 96, 3), np.float32) + np.linspace(10, 60, 96, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(RESTORATIONS.find("dark")(flat), expose(flat, 0.44))


def test_a_colour_that_is_grey_stays_grey(scenes):
    grey = np.repeat(scenes[1][..., 1:2], 3, axis=2)
    dark = apply_defect(grey, "dark", 0.5, np.random.default_rng(0)).astype(np.float32)
    assert np.ptp(undo_darkening(dark, 0.5), axis=-1).max() < 0.1
