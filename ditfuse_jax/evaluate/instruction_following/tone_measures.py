"""Measures of control: brightness, contrast, the order of levels, and structural similarity."""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ditfuse_jax.evaluate.metrics import CLEAN_METRICS, compute_metrics, grey

_LEVELS = np.arange(256)


def luminance(image: np.ndarray) -> np.ndarray:
    """Returns the grey image that the metrics use: uint8 RGB `(H, W, 3)` to uint8 `(H, W)`."""
    return np.asarray(grey.luminance(jnp.asarray(image))).astype(np.uint8)


def brightness(image: np.ndarray) -> float:
    """Returns the mean luminance of uint8 RGB `(H, W, 3)`, 0 to 255 levels."""
    return float(luminance(image).mean())


def contrast(image: np.ndarray) -> float:
    """Returns the standard deviation of the luminance of uint8 RGB `(H, W, 3)`, levels."""
    return float(luminance(image).std())


def strictly_ordered(values: Sequence[float]) -> bool:
    """Returns whether each value is greater than the one before it."""
    return all(low < high for low, high in itertools.pairwise(values))


def ordered_neighbours(values: Sequence[float]) -> float:
    """Returns the fraction, in [0, 1], of neighbours of which the second is greater."""
    pairs = list(itertools.pairwise(values))
    return sum(low < high for low, high in pairs) / len(pairs)


def kendall_tau(values: Sequence[float]) -> float:
    """Returns Kendall's tau-a between values and positions, in [-1, 1]; a tie counts 0.

    Kendall, "A new measure of rank correlation", Biometrika 30, 1938.
    """
    pairs = list(itertools.combinations(values, 2))
    return sum((later > first) - (later < first) for first, later in pairs) / len(pairs)


def match_histogram(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns a grey image whose levels are remapped to match the histogram of another.

    Each level becomes the mean of the reference's levels at the same quantiles, so a monotone
    curve over `reference` is undone, except for levels that it merged.

    Args:
      image: uint8 `(H, W)`.
      reference: uint8, any shape.
    """
    counts = np.bincount(image.ravel(), minlength=256) / image.size
    wanted = np.bincount(reference.ravel(), minlength=256) / reference.size
    # Sums of the reference's levels up to each quantile; their differences give the means.
    quantiles = np.concatenate([[0.0], np.cumsum(wanted)])
    sums = np.concatenate([[0.0], np.cumsum(wanted * _LEVELS)])
    edges = np.concatenate([[0.0], np.cumsum(counts)])
    parts = np.diff(np.interp(edges, quantiles, sums))
    curve = np.divide(parts, counts, out=np.zeros(256), where=counts > 0)
    return np.clip(np.rint(curve), 0, 255).astype(np.uint8)[image]


def structural_similarity(image: np.ndarray, plain: np.ndarray) -> float:
    """Returns the SSIM of two images' luminances after matching the first's histogram.

    The result is 1 for any strictly monotone curve over the luminance.  A curve over each channel
    of a colourful picture is only nearly such a curve, so compare with the value of a target.

    Args:
      image: uint8 RGB `(H, W, 3)`.
      plain: of the same shape.

    Raises:
      UserError: sides below 11 pixels.
    """
    reference = luminance(plain)
    return ssim(match_histogram(luminance(image), reference), reference)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the SSIM of two grey images, uint8 `(H, W)`.

    Raises:
      UserError: sides below 11 pixels.
    """
    rgb = [np.repeat(image[..., None], 3, axis=2) for image in (a, b)]
    _, name = CLEAN_METRICS
    return compute_metrics(rgb[0], [rgb[1]], rgb[1], (name,))[name]


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the mean squared difference of two uint8 images, squared levels."""
    return float(np.square(a.astype(np.float64) - b).mean())


def psnr(squared_errors: Sequence[float]) -> float:
    """Returns the PSNR of the mean of squared errors, dB: infinite for 0, NaN without errors."""
    if not len(squared_errors):
        return math.nan
    error = float(np.mean(squared_errors))
    return 10 * math.log10(255**2 / error) if error else math.inf
