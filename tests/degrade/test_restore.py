"""Classical restoration undoes the defects of `defects.py` and spares intact images."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade.deblur import deblur, estimate_kernel, motion_line
from ditfuse_jax.degrade.defects import IMAGE_DEFECTS, apply_defect
from ditfuse_jax.degrade.defocus import disc
from ditfuse_jax.degrade.restore import RESTORATIONS, noise_deviation
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.prompts.requests import DEFECTS

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@pytest.fixture(scope="module")
def photographs():
    source = open_source("samples:heldout")
    wanted = ("chelsea", "coffee")
    found = [source[list(source.names).index(name)][0] for name in wanted]
    return [np.ascontiguousarray(image[40:260, 60:340]) for image in found]


def psnr(image, clean):
    error = np.mean(np.square(image.astype(np.float64) - clean))
    return 10 * np.log10(255**2 / max(error, 1e-9))


def restored(name, image):
    return np.rint(RESTORATIONS.find(name)(image.astype(np.float32)))


def test_every_defect_that_a_sentence_can_name_has_its_restoration():
    assert set(RESTORATIONS) == set(DEFECTS) <= set(IMAGE_DEFECTS)


@pytest.mark.parametrize("name", DEFECTS)
def test_a_restored_image_is_clearly_nearer_to_the_clean_one(name, photographs):
    gains = []
    for number, clean in enumerate(photographs):
        for strength in (0.2, 0.8):
            rng = np.random.default_rng((number, int(10 * strength)))
            damaged = apply_defect(clean, name, strength, rng)
            gains.append(psnr(restored(name, damaged), clean) - psnr(damaged, clean))
    assert np.mean(gains) > 2.5, gains


@pytest.mark.parametrize("name", [name for name in DEFECTS if name != "cast"])
def test_grey_images_stay_grey(name, photographs):
    grey = np.repeat(photographs[0][..., 1:2], 3, axis=2)
    damaged = apply_defect(grey, name, 0.5, np.random.default_rng(0))
    image = restored(name, damaged)
    assert np.ptp(image, axis=-1).max() <= 1


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64), (65, 33)])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_flat_and_tiny_images_are_no_error(name, shape, grey):
    image = RESTORATIONS.find(name)(np.full((*shape, 3), grey, np.float32))
    assert image.shape == (*shape, 3) and np.isfinite(image).all()
    assert image.min() >= 0 and image.max() <= 255


@pytest.mark.parametrize("deviation", [0, 5, 20])
def test_the_noise_of_an_image_is_measured(deviation):
    rng = np.random.default_rng(0)
    smooth = 120 + 60 * np.sin(np.arange(200) / 30)[None, :, None] + np.zeros((150, 200, 3))
    noisy = smooth + deviation * rng.standard_normal(smooth.shape)
    assert noise_deviation(noisy.astype(np.float32)) == pytest.approx(deviation, rel=0.1, abs=0.5)


@pytest.mark.parametrize(
    "kernel", [disc(2.0), disc(3.5), motion_line(2.5, 0.0), motion_line(3.0, np.pi / 3)]
)
def test_the_kernel_is_found_from_the_blurred_image_alone(kernel, photographs):
    kernel = kernel.astype(np.float32)
    luma = cv2.filter2D(photographs[0], -1, kernel, borderType=cv2.BORDER_REFLECT_101) @ LUMA
    found = estimate_kernel(luma)
    assert found is not None
    side = max(len(kernel), len(found[0]))
    pads = [(side - len(k)) // 2 for k in (kernel, found[0])]
    ours, true = (np.pad(k, pad) for k, pad in zip((found[0], kernel), pads[::-1], strict=True))
    assert np.corrcoef(ours.ravel(), true.ravel())[0, 1] > 0.85


def test_a_sharp_image_is_changed_little_by_deblurring(photographs):
    for clean in photographs:
        assert psnr(deblur(clean.astype(np.float32), 1.0), clean) > 27
