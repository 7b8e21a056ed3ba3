"""Operations on targets: each changes its own axis, in order of the levels, and little else."""

import numpy as np
import pytest

from ditfuse_jax.degrade.adjust import AXIS_OPERATIONS, adjust, emphasise
from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.sources import open_source

_LUMA = np.array([0.299, 0.587, 0.114])
_LEVELS = (-2, -1, 0, 1, 2)


def _luma(image: np.ndarray) -> np.ndarray:
    return image.astype(float) @ _LUMA


def _saturation(image: np.ndarray) -> float:
    luma = _luma(image)
    chroma = np.sqrt(((image - luma[..., None]) ** 2).sum(-1))
    return float(chroma.sum() / luma.sum())


def _fine(image: np.ndarray) -> float:
    luma = _luma(image)
    return float(
        (np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()) / luma.std()
    )


MEASURES = {
    "brightness": lambda image: float(_luma(image).mean()),
    "contrast": lambda image: float(_luma(image).std()),
    "saturation": _saturation,
    "detail": _fine,
}


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    source = open_source("samples:heldout")
    images = [np.asarray(source[k][0]) for k in range(len(source))]
    return sorted(images, key=_saturation)[-2]


@pytest.mark.parametrize("axis", MEASURES)
def test_levels_are_in_order_and_apart(axis: str, photograph: np.ndarray):
    values = [MEASURES[axis](adjust(photograph, axis, level)) for level in _LEVELS]
    assert values == sorted(values)
    assert min(np.diff(values)) > 0.1 * values[2]


@pytest.mark.parametrize("axis", MEASURES)
@pytest.mark.parametrize("level", [-1, 1])
def test_the_other_axes_stay(axis: str, level: int, photograph: np.ndarray):
    changed = adjust(photograph, axis, level)
    for other, measure in MEASURES.items():
        if other == axis:
            continue
        step = abs(measure(adjust(photograph, other, 1)) - measure(photograph))
        allowed = 0.5 if {axis, other} <= {"brightness", "contrast"} else 0.3
        assert abs(measure(changed) - measure(photograph)) < allowed * step, other


def test_level_0_and_an_empty_region_change_nothing(photograph: np.ndarray):
    nowhere = np.zeros(photograph.shape[:2], bool)
    for axis in AXIS_OPERATIONS:
        np.testing.assert_array_equal(adjust(photograph, axis, 0), photograph)
        np.testing.assert_array_equal(adjust(photograph, axis, 2, nowhere), photograph)


def test_outside_a_region_nothing_changes(photograph: np.ndarray):
    width = photograph.shape[1]
    mask = np.zeros(photograph.shape[:2], bool)
    mask[:, : width // 2] = True
    far = width // 2 + 12
    for axis in AXIS_OPERATIONS:
        changed = adjust(photograph, axis, -2, mask)
        np.testing.assert_array_equal(changed[:, far:], photograph[:, far:])
        assert (changed[:, : far - 24] != photograph[:, : far - 24]).mean() > 0.2


def test_no_saturation_is_grey_and_grey_stays_grey(photograph: np.ndarray):
    grey = adjust(photograph, "saturation", -2)
    assert np.ptp(grey.astype(int), axis=-1).max() == 0
    for axis in AXIS_OPERATIONS:
        for level in (-2, 2):
            assert np.ptp(adjust(grey, axis, level).astype(int), axis=-1).max() == 0


def test_black_becomes_grey_and_keeps_its_colour_where_the_contrast_is_pressed():
    image = np.full((8, 8, 3), 200, np.uint8)
    image[:4] = 0
    image[0, 0] = (3, 0, 0)
    pressed = adjust(image, "contrast", -2).astype(int)
    assert (pressed[1:4] == pressed[1, 1]).all() and pressed[1, 1, 0] > 50
    assert np.ptp(pressed[0, 0]) < 50


def test_smoothing_removes_noise_and_keeps_an_edge():
    rng = np.random.default_rng(0)
    step = np.where(np.arange(64) < 32, 60.0, 190.0)
    noisy = np.clip(step[None, :, None] + rng.normal(0, 6, (64, 64, 1)), 0, 255)
    image = np.repeat(noisy, 3, axis=2).round().astype(np.uint8)
    smooth = _luma(adjust(image, "detail", -2))
    assert smooth[:, :28].std() < 0.5 * _luma(image)[:, :28].std()
    assert smooth[:, 36:].mean() - smooth[:, :28].mean() > 120


@pytest.mark.parametrize("level", [1, 2])
def test_emphasis_moves_towards_the_source_and_its_negative_towards_the_others(level: int):
    rng = np.random.default_rng(0)
    one, other = (np.repeat(rng.integers(0, 256, (32, 32, 1)), 3, 2).astype(np.uint8) for _ in "ab")
    fused = ((one.astype(int) + other) // 2).astype(np.uint8)
    for sign in (1, -1):
        moved = emphasise(fused, (one, other), 0, sign * level)
        share = [np.corrcoef(moved.ravel(), source.ravel())[0, 1] for source in (one, other)]
        assert (share[0] - share[1]) * sign > 0.3 * level
    np.testing.assert_array_equal(emphasise(fused, (one, other), 0, 0), fused)


def test_an_unknown_axis_is_refused(photograph: np.ndarray):
    with pytest.raises(UserError, match="glow"):
        adjust(photograph, "glow", 1)
