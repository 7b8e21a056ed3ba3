"""What is measured of an image on each axis that an instruction can ask for."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS

_FINE_SIGMA = 1.0  # of the low-pass whose difference to the luma is the fine band, in pixels

Measure = Callable[[np.ndarray], float]


def luma(image: np.ndarray) -> np.ndarray:
    """Returns the luma of `uint8 (H, W, 3)`, float32 (H, W) in 0..255."""
    return image.astype(np.float32) @ LUMA_WEIGHTS


def mean_luma(image: np.ndarray) -> float:
    """Brightness: the mean luma of `uint8 (H, W, 3)`, in levels."""
    return float(luma(image).mean())


def luma_spread(image: np.ndarray) -> float:
    """Contrast: the standard deviation of the luma, in levels."""
    return float(luma(image).std())


def relative_chroma(image: np.ndarray) -> float:
    """Saturation: mean distance from grey divided by the mean luma."""
    grey = luma(image)
    chroma = np.sqrt(np.square(image - grey[..., None]).sum(-1))
    return float(chroma.mean() / max(grey.mean(), 1e-6))


def fine_energy(image: np.ndarray) -> float:
    """Detail: deviation of the fine band of the luma, divided by the deviation of the luma."""
    grey = luma(image)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), _FINE_SIGMA)
    return float(fine.std() / max(grey.std(), 1e-6))


AXIS_MEASURES: dict[str, Measure] = {
    "brightness": mean_luma,
    "contrast": luma_spread,
    "saturation": relative_chroma,
    "detail": fine_energy,
}


def source_share(image: np.ndarray, sources: Sequence[np.ndarray], index: int) -> float:
    """Emphasis: the share of a source in a linear regression of the luma on the sources' lumas.

    Args:
      image: `uint8 (H, W, 3)`.
      sources: images of the same size.
      index: of the source.

    Returns:
      Its coefficient divided by the sum of the absolute values of all.
    """
    columns = [luma(source).ravel() - luma(source).mean() for source in sources]
    wanted = luma(image).ravel()
    coefficients, *_ = np.linalg.lstsq(
        np.stack(columns, axis=1), wanted - wanted.mean(), rcond=None
    )
    return float(coefficients[index] / max(np.abs(coefficients).sum(), 1e-6))
