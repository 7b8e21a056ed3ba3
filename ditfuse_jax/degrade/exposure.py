"""Degradations of light: low light, colour shift, wrong exposure.

The method names these three (arXiv 2512.07170, abstract) without parameters; the ranges are ours.
"""

import cv2
import numpy as np

from ditfuse_jax.degrade.degradation import Params

LOW_LIGHT_GAMMA = (1.5, 3.0)
LOW_LIGHT_GAIN = (0.5, 1.0)
CHANNEL_GAIN = (0.6, 1.4)
EXPOSURE_STOPS = (0.75, 2.5)
DISPLAY_GAMMA = 2.2

_LEVELS = np.arange(256) / 255


def low_light(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Darkens `uint8 (h, w, 3)` by `y = gain * x**gamma` on [0, 1] (MBLLEN, Lv et al. 2018)."""
    gamma = float(rng.uniform(*LOW_LIGHT_GAMMA))
    gain = float(rng.uniform(*LOW_LIGHT_GAIN))
    return _map_levels(block, gain * _LEVELS**gamma), {"gamma": gamma, "gain": gain}


def colour_shift(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Multiplies each channel of `uint8 (h, w, 3)` by its own gain: a wrong white balance."""
    red, green, blue = (float(gain) for gain in rng.uniform(*CHANNEL_GAIN, size=3))
    curves = _LEVELS[:, None] * np.array([red, green, blue])
    return _map_levels(block, curves), {"red": red, "green": green, "blue": blue}


def exposure_imbalance(block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Over- or underexposes `uint8 (h, w, 3)` by `stops` (signed), with clipped highlights.

    Light doubles with each stop; in display values of gamma 2.2 that is a gain of 2^(stops/2.2).
    """
    stops = float(rng.uniform(*EXPOSURE_STOPS)) * (1 if rng.random() < 0.5 else -1)
    return _map_levels(block, _LEVELS * 2 ** (stops / DISPLAY_GAMMA)), {"stops": stops}


def _map_levels(block: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Maps bytes through curves on [0, 1], `(256,)` for all channels or `(256, 3)` for each."""
    table = np.clip(np.rint(curves * 255), 0, 255).astype(np.uint8)
    return cv2.LUT(block, table if curves.ndim == 1 else table[None])
