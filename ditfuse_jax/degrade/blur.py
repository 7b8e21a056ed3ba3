"""Blur of one block; beyond its border the block is reflected, its neighbours are not used.

A blur that used the neighbours would mix in pixels that other degradations keep or destroy.  All
three blurs use exact integer arithmetic, so results are equal on every machine.
"""

import cv2
import numpy as np

from ditfuse_jax.degrade.degradation import Params

KERNEL_SIDES = (3, 5, 7, 9, 11)
GAUSSIAN_SIGMA = (0.8, 3.0)  # pixels


def gaussian_blur(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Gaussian blur of `uint8 (h, w, 3)`: `sigma` uniform in 0.8..3 px, kernel of `kernel` px."""
    kernel = _kernel_side(rng)
    sigma = float(rng.uniform(*GAUSSIAN_SIGMA))
    blurred = cv2.GaussianBlur(
        block,
        (kernel, kernel),
        sigma,
        borderType=cv2.BORDER_REFLECT_101,
        hint=cv2.ALGO_HINT_ACCURATE,  # the bit-exact fixed-point path
    )
    return blurred, {"kernel": kernel, "sigma": sigma}


def box_blur(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Mean of `uint8 (h, w, 3)` over a square of `kernel` px."""
    kernel = _kernel_side(rng)
    blurred = cv2.blur(block, (kernel, kernel), borderType=cv2.BORDER_REFLECT_101)
    return blurred, {"kernel": kernel}


def median_blur(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Median of `uint8 (h, w, 3)` per channel over a square of `kernel` px."""
    kernel = _kernel_side(rng)
    return cv2.medianBlur(block, kernel), {"kernel": kernel}


def _kernel_side(rng: np.random.Generator) -> int:
    return KERNEL_SIDES[rng.integers(len(KERNEL_SIDES))]
