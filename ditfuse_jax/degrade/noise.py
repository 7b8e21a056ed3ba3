"""Additive and impulse noise."""

import numpy as np

from ditfuse_jax.degrade.degradation import Params

GAUSSIAN_SIGMA = (10.0, 35.0)  # on 0..255
IMPULSE_PROBABILITY = (0.01, 0.03)


def gaussian_noise(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Adds white noise to `uint8 (h, w, 3)`: deviation `sigma` uniform in 10..35 of 255."""
    sigma = float(rng.uniform(*GAUSSIAN_SIGMA))
    noisy = rng.standard_normal(block.shape, dtype=np.float32)
    noisy *= np.float32(sigma)
    noisy += block
    np.rint(noisy, out=noisy)
    np.clip(noisy, 0, 255, out=noisy)
    return noisy.astype(np.uint8), {"sigma": sigma}


def salt_and_pepper(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Makes each pixel of `uint8 (h, w, 3)` white or black with `probability` 0.01..0.03.

    Half of the hit pixels turn white, half black, on average; all three channels at once.
    """
    probability = float(rng.uniform(*IMPULSE_PROBABILITY))
    draw = rng.random(block.shape[:2], dtype=np.float32)
    noisy = block.copy()
    noisy[draw < probability] = 0
    noisy[draw < probability / 2] = 255
    return noisy, {"probability": probability}
