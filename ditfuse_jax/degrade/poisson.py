"""Images from gradients: solves the screened Poisson equation exactly by cosine transforms."""

import functools

import numpy as np


def screened_poisson(
    across: np.ndarray, down: np.ndarray, level: np.ndarray, screening: float
) -> np.ndarray:
    """Returns the image f that minimises |grad f - g|^2 + screening * |f - level|^2.

    With reflecting borders the equation is diagonal in the cosine basis (Bhat et al. 2008).

    Args:
      across: (H, W) target differences to the right neighbour; the last column is ignored.
      down: (H, W) target differences to the lower neighbour; the last row is ignored.
      level: (H, W) target values.
      screening: weight of `level`, above 0.

    Returns:
      (H, W) float32.
    """
    height, width = level.shape
    divergence = np.zeros((height, width), np.float64)
    divergence[:, :-1] += across[:, :-1]
    divergence[:, 1:] -= across[:, :-1]
    divergence[:-1] += down[:-1]
    divergence[1:] -= down[:-1]
    right = screening * level.astype(np.float64) - divergence
    vertical, horizontal = _cosines(height), _cosines(width)
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in (height, width))
    coefficients = vertical @ right @ horizontal.T
    coefficients /= screening + rows[:, None] + columns[None]
    return (vertical.T @ coefficients @ horizontal).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _cosines(size: int) -> np.ndarray:
    """Returns the orthonormal DCT-II as a matrix; OpenCV's transform takes even sizes only."""
    waves = np.cos(np.pi * np.arange(size)[:, None] * (np.arange(size) + 0.5) / size)
    waves *= np.sqrt(2 / size)
    waves[0] = np.sqrt(1 / size)
    return waves
