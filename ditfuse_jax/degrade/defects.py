"""Defects of a whole source image, as a camera, the weather or the light causes them.

A defect takes an image, a strength in 0..1 and a random generator.  The ranges are this project's
own; what is modelled is named with each function.
"""

from collections.abc import Callable

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS
from ditfuse_jax.degrade.darkness import darkening
from ditfuse_jax.degrade.deblur import motion_line
from ditfuse_jax.degrade.defocus import disc
from ditfuse_jax.degrade.misalign import MAX_SHIFT
from ditfuse_jax.registry import Registry

_DISPLAY_GAMMA = 2.2

Defect = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

IMAGE_DEFECTS: Registry[Defect] = Registry("defect")


@IMAGE_DEFECTS.register("dark")
def dark(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Low light: a gamma of 1.5 to 3.5, a gain down to .5, and noise of the dark sensor.

    Args:
      image: uint8 (H, W, 3).
      strength: 0..1.
      rng: draws the noise.
    """
    gamma, gain, deviation = darkening(strength)
    noise = rng.standard_normal(image.shape[:2], np.float32)[..., None]
    return _to_bytes(255 * (np.float32(image / 255) ** gamma * gain) + deviation * noise)


@IMAGE_DEFECTS.register("noisy")
def noisy(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """White noise with a deviation of 8 to 40 levels, the same in all channels of a grey image."""
    grey = bool((image == image[..., :1]).all())
    shape = (*image.shape[:2], 1 if grey else 3)
    return _to_bytes(image + (8 + 32 * strength) * rng.standard_normal(shape, np.float32))


@IMAGE_DEFECTS.register("hazy")
def hazy(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Haze (Koschmieder): `t x + (1 - t) A` with a transmission that falls towards the top."""
    height, width = image.shape[:2]
    depth = np.linspace(1, 0.5, height, dtype=np.float32)[:, None]
    uneven = rng.standard_normal((4, 4)).astype(np.float32)
    depth = depth + 0.08 * cv2.resize(uneven, (width, height), interpolation=cv2.INTER_CUBIC)
    transmission = np.exp(-(0.4 + 1.4 * strength) * np.clip(depth, 0, None))[..., None]
    airlight = np.float32(rng.uniform(190, 240))
    return _to_bytes(transmission * image + (1 - transmission) * airlight)


@IMAGE_DEFECTS.register("blurred")
def blurred(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Defocus by a disc, or motion along a line, of 1 to 4 pixels' radius."""
    radius = 1 + 3 * strength
    defocus = rng.random() < 0.5
    kernel = disc(radius) if defocus else motion_line(radius, rng.uniform(0, np.pi))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


@IMAGE_DEFECTS.register("cast")
def cast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A colour cast: gains of the channels that keep the mean luma, as of a wrong white balance."""
    hue = rng.uniform(0, 2 * np.pi)
    turns = hue + np.array([0, 2, 4]) * np.pi / 3
    gains = 1 + (0.08 + 0.24 * strength) * np.cos(turns)
    gains /= gains @ LUMA_WEIGHTS
    return _to_bytes(image * gains.astype(np.float32))


@IMAGE_DEFECTS.register("stripes")
def stripes(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Fixed-pattern noise of a thermal camera: an offset of each column, or each row."""
    vertical = rng.random() < 0.7
    length = image.shape[1 if vertical else 0]
    offsets = (5 + 20 * strength) * rng.standard_normal(length).astype(np.float32)
    pattern = offsets[None, :] if vertical else offsets[:, None]
    return _to_bytes(image + pattern[..., None])


@IMAGE_DEFECTS.register("rainy")
def rainy(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Rain: bright streaks of one direction, blurred by their motion, and the veil of far drops.

    A streak takes the place of the scene behind it (Garg and Nayar 2007): `(1 - a) x + a 230`.
    """
    height, width = image.shape[:2]
    length = max(7, round(min(height, width) * (0.04 + 0.04 * strength)) | 1)
    angle = np.deg2rad(rng.uniform(-20, 20))  # from the vertical
    half = length // 2
    dx, dy = half * np.sin(angle), half * np.cos(angle)
    kernel = np.zeros((length, length), np.float32)
    start, stop = ((round(half + s * dx), round(half + s * dy)) for s in (-1, 1))
    cv2.line(kernel, start, stop, (1.0,), 1)
    drops = (rng.random((height, width), np.float32) < 0.002 + 0.006 * strength).astype(np.float32)
    streaks = cv2.filter2D(drops, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    cover = cv2.GaussianBlur(np.minimum(streaks, 1), (3, 3), 0.6)[..., None]
    veil = np.float32(0.05 + 0.15 * strength)
    alpha = veil + (1 - veil) * np.float32(0.35 + 0.35 * strength) * cover
    return _to_bytes((1 - alpha) * image + alpha * 230)


@IMAGE_DEFECTS.register("overexposed")
def overexposed(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Too long an exposure, by 0.75 to 2.5 stops, with clipped highlights."""
    return _exposed(image, 0.75 + 1.75 * strength)


@IMAGE_DEFECTS.register("underexposed")
def underexposed(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Too short an exposure, by 0.75 to 2.5 stops, rounded to whole levels."""
    return _exposed(image, -0.75 - 1.75 * strength)


@IMAGE_DEFECTS.register("shifted")
def shifted(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A shift by up to 4 pixels in a random direction, as registration leaves it."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = MAX_SHIFT * strength * np.cos(angle), MAX_SHIFT * strength * np.sin(angle)
    return cv2.warpAffine(
        image,
        np.array([[1, 0, x], [0, 1, y]], np.float32),
        image.shape[1::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _exposed(image: np.ndarray, stops: float) -> np.ndarray:
    # Light doubles with each stop; in display values that is a gain of 2^(stops / 2.2).
    return _to_bytes(image * np.float32(2 ** (stops / _DISPLAY_GAMMA)))


def apply_defect(
    image: np.ndarray, name: str, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns the image with a defect, `uint8 (H, W, 3)`.

    Raises:
      UserError: there is no such defect.
    """
    return IMAGE_DEFECTS.find(name)(image, strength, rng)


def vary_light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Varies light, colours and weather, so that a model does not learn those of a few days.

    A tone curve, the saturation and a slight cast vary; one scene in eight gets haze.

    Args:
      image: uint8 (H, W, 3).
      rng: draws the variation.
    """
    light = np.float32(image / 255) ** np.exp(rng.uniform(-0.4, 0.5))
    luma = light @ LUMA_WEIGHTS
    varied = luma[..., None] + np.float32(rng.uniform(0.3, 1.4)) * (light - luma[..., None])
    varied = _to_bytes(255 * varied * rng.uniform(0.92, 1.08, 3).astype(np.float32))
    return hazy(varied, rng.random() * 0.5, rng) if rng.random() < 1 / 8 else varied


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
