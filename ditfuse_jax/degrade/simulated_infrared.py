"""A thermal image of a labelled street scene, and the scene at night beside it.

Labelled infrared-visible pairs of streets are few; this makes pairs from labelled photographs.  The
temperatures are plausible grey levels, not measurements.
"""

from collections.abc import Mapping

import cv2
import numpy as np

from ditfuse_jax.degrade.defects import dark

# Class -> grey level of its mean temperature, and how far it varies between scenes.
_TEMPERATURE: Mapping[str, tuple[float, float]] = {
    "sky": (25, 15),
    "building": (105, 30),
    "pole": (100, 30),
    "road": (90, 25),
    "pavement": (95, 25),
    "tree": (75, 25),
    "sign": (85, 30),
    "fence": (90, 25),
    "car": (130, 40),
    "pedestrian": (215, 30),
    "cyclist": (205, 30),
}
_OTHER = (95, 30)
_TEXTURE = (0.15, 0.5)  # share of the photograph's luma detail, of either sign
_SIGMA = (0.5, 1.5)  # of the optics' blur, in pixels
_NOISE = (1.0, 5.0)  # deviation in grey levels


def simulated_infrared(
    image: np.ndarray, labels: np.ndarray, names: list[str], rng: np.random.Generator
) -> np.ndarray:
    """Returns a thermal image, grey `uint8 (H, W, 3)`.

    Args:
      image: uint8 (H, W, 3).
      labels: (H, W) class numbers.
      names: the class of each number; others are of medium temperature.
      rng: draws temperatures, texture, blur and noise.
    """
    heat = np.full(256, rng.normal(*_OTHER))
    for number, name in enumerate(names):
        mean, deviation = _TEMPERATURE.get(name, _OTHER)
        heat[number] = rng.normal(mean, deviation / 2)
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    texture = luma - cv2.GaussianBlur(luma, (0, 0), 12)
    share = rng.uniform(*_TEXTURE) * rng.choice([-1, 1])
    # Parts of one object differ in temperature: a smooth field over the image.
    coarse = rng.standard_normal((6, 8)).astype(np.float32)
    field = cv2.resize(coarse, luma.shape[::-1], interpolation=cv2.INTER_CUBIC)
    thermal = heat[labels].astype(np.float32) + share * texture + 8 * field
    thermal = cv2.GaussianBlur(thermal, (0, 0), rng.uniform(*_SIGMA))
    thermal += rng.uniform(*_NOISE) * rng.standard_normal(luma.shape, np.float32)
    grey = np.clip(np.rint(thermal), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def at_night(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a `uint8 (H, W, 3)` photograph darkened, with the tint of street lamps."""
    tint = np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.55, 1.05)], np.float32)
    tinted = np.clip(np.rint(image * tint), 0, 255).astype(np.uint8)
    return dark(tinted, rng.uniform(0.0, 0.5), rng)
