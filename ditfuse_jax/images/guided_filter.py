"""The guided filter (He et al. 2010, "Guided Image Filtering") with several guides."""

import cv2
import numpy as np


def guided_filter(
    values: np.ndarray, guides: np.ndarray, radius: int, epsilon: float
) -> np.ndarray:
    """Smooths values so that in every window they are nearly linear in the guides.

    Args:
      values: float32 (H, W).
      guides: float32 (H, W) or (H, W, G).
      radius: a window has 2 * radius + 1 pixels along a side.
      epsilon: variances of the guides below this are smoothed away.

    Returns:
      float32 (H, W).
    """
    slopes, offset = guided_coefficients(values, guides, radius, epsilon)
    return np.sum(slopes * _planes(guides), axis=-1) + offset


def guided_coefficients(
    values: np.ndarray, guides: np.ndarray, radius: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns slopes (H, W, G) and offset (H, W) of the guided filter.

    Enlarged to the size of larger guides they are the fast guided filter (He and Sun 2015).
    """
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, size, borderType=cv2.BORDER_REFLECT)

    planes = _planes(guides)
    count = planes.shape[-1]
    means, of_values = [mean(planes[..., i]) for i in range(count)], mean(values)
    products = np.empty((*values.shape, count, count), np.float32)
    shared = np.empty((*values.shape, count, 1), np.float32)
    for i in range(count):
        one = planes[..., i]
        shared[..., i, 0] = mean(one * values) - means[i] * of_values
        for j in range(i, count):
            covariance = mean(one * planes[..., j]) - means[i] * means[j]
            products[..., i, j] = products[..., j, i] = covariance
    products += epsilon * np.eye(count, dtype=np.float32)
    # For one guide, a division: solving takes five times as long.
    solved = shared / products if count == 1 else np.linalg.solve(products, shared)
    slopes = solved[..., 0]
    offset = of_values - np.sum(slopes * np.stack(means, axis=-1), axis=-1)
    return np.stack([mean(slopes[..., i]) for i in range(count)], axis=-1), mean(offset)


def _planes(guides: np.ndarray) -> np.ndarray:
    return guides[..., None] if guides.ndim == 2 else guides
