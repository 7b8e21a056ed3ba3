"""The guided filter with several guides."""

import numpy as np
import pytest

from ditfuse_jax.images.guided_filter import guided_coefficients, guided_filter


def _noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def test_values_that_are_linear_in_the_guides_stay_as_they_are():
    guides = _noise(40, 50, 2)
    values = 0.3 * guides[..., 0] - 0.6 * guides[..., 1] + 0.2
    filtered = guided_filter(values, guides, 6, 1e-6)
    np.testing.assert_allclose(filtered, values, atol=1e-3)


def test_one_guide_gives_the_formula_of_the_paper():
    guide, values = _noise(30, 34), _noise(30, 34, seed=1)
    radius, epsilon = 3, 0.01

    def mean(x: np.ndarray) -> np.ndarray:
        # The border is reflected with its own pixel, as cv2.BORDER_REFLECT does.
        padded = np.pad(x.astype(np.float64), radius, mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
        return windows.mean(axis=(2, 3))

    covariance = mean(guide * values) - mean(guide) * mean(values)
    slope = covariance / (mean(guide * guide) - mean(guide) ** 2 + epsilon)
    expected = mean(slope) * guide + mean(mean(values) - slope * mean(guide))
    np.testing.assert_allclose(guided_filter(values, guide, radius, epsilon), expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_constant_guides_give_the_mean_of_the_windows_means(count):
    slopes, offset = guided_coefficients(
        _noise(20, 20), np.full((20, 20, count), 0.5, np.float32), 2, 1e-4
    )
    assert slopes.shape == (20, 20, count)
    np.testing.assert_allclose(slopes, 0, atol=1e-2)
    assert offset.std() < _noise(20, 20).std() / 3
