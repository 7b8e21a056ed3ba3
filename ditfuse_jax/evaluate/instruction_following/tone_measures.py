"""Measures of control: how light, how contrasty, in which order, and what of the picture stays."""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ditfuse_jax.evaluate.metrics import CLEAN_METRICS, compute_metrics, grey

_LEVELS = np.arange(256)


def luminance(image: np.ndarray) -> np.ndarray:
    """The metrics' grey of uint8 RGB `(H, W, 3)`: uint8 `(H, W)`."""
    return np.asarray(grey.luminance(jnp.asarray(image))).astype(np.uint8)


def brightness(image: np.ndarray) -> float:
    """Mean luminance of uint8 RGB `(H, W, 3)`, 0 to 255 levels."""
    return float(luminance(image).mean())


def contrast(image: np.ndarray) -> float:
    """Standard deviation of the luminance of uint8 RGB `(H, W, 3)`, levels."""
    return float(luminance(image).std())


def strictly_ordered(values: Sequence[float]) -> bool:
    """Whether each value is above the one before it."""
    return all(low < high for low, high in itertools.pairwise(values))


def ordered_neighbours(values: Sequence[float]) -> float:
    """Share, in [0, 1], of neighbours of which the second is above the first."""
    pairs = list(itertools.pairwise(values))
    return sum(low < high for low, high in pairs) / len(pairs)


def kendall_tau(values: Sequence[float]) -> float:
    """Kendall's tau-a between the values and their places, in [-1, 1]; ties count nothing.

    Kendall, "A new measure of rank correlation", Biometrika 30, 1938.
    """
    pairs = list(itertools.combinations(values, 2))
    return sum((later > first) - (later < first) for first, later in pairs) / len(pairs)


def match_luminance(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Returns a grey image with its levels moved so that its histogram is that of another.

    Each level goes to the mean of the other's levels at its share of the pixels, so a monotone
    curve over `like` is undone, but for levels that it joined.

    Args:
      image: uint8 `(H, W)`.
      like: uint8, any shape.
    """
    counts = np.bincount(image.ravel(), minlength=256) / image.size
    wanted = np.bincount(like.ravel(), minlength=256) / like.size
    # Sums of the other's levels up to each share of the pixels; their differences are the means.
    shares = np.concatenate([[0.0], np.cumsum(wanted)])
    sums = np.concatenate([[0.0], np.cumsum(wanted * _LEVELS)])
    edges = np.concatenate([[0.0], np.cumsum(counts)])
    parts = np.diff(np.interp(edges, shares, sums))
    curve = np.divide(parts, counts, out=np.zeros(256), where=counts > 0)
    return np.clip(np.rint(curve), 0, 255).astype(np.uint8)[image]


def structure_kept(image: np.ndarray, plain: np.ndarray) -> float:
    """SSIM of the luminances of two uint8 RGB images `(H, W, 3)`, the first one's matched before.

    1 for any strictly monotone curve over the luminance.  A curve over each channel of a colourful
    picture is nearly one, so read the value beside that of such a picture.

    Raises:
      UserError: sides below 11 pixels.
    """
    reference = luminance(plain)
    return similarity(match_luminance(luminance(image), reference), reference)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of two grey images, uint8 `(H, W)`.

    Raises:
      UserError: sides below 11 pixels.
    """
    rgb = [np.repeat(image[..., None], 3, axis=2) for image in (a, b)]
    _, name = CLEAN_METRICS
    return compute_metrics(rgb[0], [rgb[1]], rgb[1], (name,))[name]


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared difference of two uint8 images, squared levels."""
    return float(np.square(a.astype(np.float64) - b).mean())


def decibels(squared_errors: Sequence[float]) -> float:
    """PSNR of the mean squared error, dB; infinite where all are 0, NaN of none."""
    if not len(squared_errors):
        return math.nan
    error = float(np.mean(squared_errors))
    return 10 * math.log10(255**2 / error) if error else math.inf
