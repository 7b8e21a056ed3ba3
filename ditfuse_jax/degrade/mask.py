"""Masking: all pixels of a block are replaced."""

import numpy as np

from ditfuse_jax.degrade.degradation import Params


def mask(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Replaces `uint8 (h, w, 3)` by uniform random bytes per pixel and channel."""
    return rng.integers(0, 256, block.shape, dtype=np.uint8), {}
