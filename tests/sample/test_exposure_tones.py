"""Even tones of fused exposures."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.sample import exposure_tones
from ditfuse_jax.sample.exposure_tones import even_tones


def _scene(height: int = 120, width: int = 160, depth: int = 8) -> list[np.ndarray]:
    """A dark and a bright exposure of a wall, and of a window in its middle."""
    rng = np.random.default_rng(0)
    light = np.full((height, width, 1), 0.2) + rng.normal(0, 0.01, (height, width, 1))
    light[height // 3 : height // 2, width // 3 : width // 2] = 0.9
    exposures = [np.clip(light * 0.35, 0, 1), np.clip(light * 3, 0, 1)]
    dtype, largest = (np.uint8, 255) if depth == 8 else (np.uint16, 65535)
    return [np.rint(np.repeat(one, 3, axis=2) * largest).astype(dtype) for one in exposures]


def _fused(sources: list[np.ndarray], share: np.ndarray | float = 0.5) -> np.ndarray:
    dark, bright = (one.astype(np.float32) for one in sources)
    return np.rint(dark * share + bright * (1 - share)).astype(sources[0].dtype)


def _wall(image: np.ndarray) -> np.ndarray:
    """The coarse luma of the wall below the window."""
    smooth = cv2.GaussianBlur(image[..., 1].astype(np.float32), (0, 0), 4.0)
    return smooth[70:110, 10:150]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_smudge_on_a_flat_wall_is_removed(depth):
    sources = _scene(depth=depth)
    share = np.full((120, 160, 1), 0.5, np.float32)
    share += (
        0.3
        * cv2.GaussianBlur(np.eye(1, 120 * 160, 90 * 160 + 80).reshape(120, 160), (0, 0), 8)[
            ..., None
        ]
        * (2 * np.pi * 64)
    )
    smudged = _fused(sources, np.clip(share, 0, 1))
    even = even_tones(smudged, sources)
    assert even.dtype == smudged.dtype
    assert np.ptp(_wall(even)) < np.ptp(_wall(smudged)) / 4


def test_a_fusion_with_even_tones_stays_nearly_as_it_is():
    sources = _scene()
    fused = _fused(sources)
    assert np.abs(even_tones(fused, sources).astype(int) - fused).max() <= 2


@pytest.mark.parametrize("cell", [2, 4])
def test_fine_texture_gets_no_other_tone(cell):
    rng = np.random.default_rng(0)
    light = rng.random((480 // cell, 640 // cell, 1)).repeat(cell, axis=0).repeat(cell, axis=1)
    light[:, :320] *= 0.2
    sources = [
        np.rint(np.clip(np.repeat(light * gain, 3, axis=2), 0, 1) * 255).astype(np.uint8)
        for gain in (0.4, 1.6)
    ]
    fused = _fused(sources)
    change = even_tones(fused, sources)[40:-40, 40:-40].astype(float) - fused[40:-40, 40:-40]
    assert abs(change[:, 300:].mean()) < 1  # the mean of the bright half, 4.9 to 7.2 before


def test_fine_detail_and_chroma_stay():
    sources = _scene()
    fused = _fused(sources)
    fused[::2, ::2] = np.clip(fused[::2, ::2].astype(int) + 30, 0, 255)
    fused[..., 0] = np.clip(fused[..., 0].astype(int) - 20, 0, 255)
    even = even_tones(fused, sources).astype(int)
    inside = (slice(10, 110), slice(10, 150))
    change = even[inside] - fused[inside]
    assert np.ptp(change, axis=-1).max() == 0  # equal in red, green and blue
    assert np.abs(change[::2, ::2].mean() - change[1::2, 1::2].mean()) < 1


def test_three_exposures_work_too():
    dark, bright = _scene()
    middle = _fused([dark, bright])
    result = even_tones(middle, [dark, middle, bright])
    assert np.abs(result.astype(int) - middle).max() <= 2


def test_strips_change_nothing(monkeypatch):
    sources = _scene()
    whole = even_tones(_fused(sources, 0.3), sources)
    monkeypatch.setattr(exposure_tones, "_STRIP", 33)
    np.testing.assert_array_equal(even_tones(_fused(sources, 0.3), sources), whole)


def test_a_large_image_is_changed_as_its_reduction_is():
    sources = _scene()
    share = np.linspace(0.2, 0.8, 160, dtype=np.float32)[None, :, None]
    small = even_tones(_fused(sources, share), sources)
    large = [cv2.resize(one, (1600, 1200), interpolation=cv2.INTER_LINEAR) for one in sources]
    wide = np.linspace(0.2, 0.8, 1600, dtype=np.float32)[None, :, None]
    reduced = cv2.resize(
        even_tones(_fused(large, wide), large), (160, 120), interpolation=cv2.INTER_AREA
    )
    assert np.abs(_wall(reduced) - _wall(small)).max() < 4


@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (33, 5)])
def test_any_size_works(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert even_tones(image, [image, 255 - image]).shape == image.shape
