"""Targets for fusion tasks that have no ground truth, made from the registered sources.

All work on luminance where they choose between sources, and take the colour of the more colourful
source: an infrared image has none.
"""

import itertools
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ditfuse_jax.degrade.poisson import screened_poisson

# Detail is weighed in windows of this sigma, in pixels.
_SALIENCY_SIGMA = 5.0
# How strongly the more salient source wins, and what share every source keeps.
_SHARPNESS = 2.0
_FLOOR = 1e-3
# How firmly gradient fusion holds on to the brightness it starts from.
_SCREENING = 0.05


def mean(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the rounded mean of `uint8 (H, W, 3)` images of one size (DiTFuse's IVIF target)."""
    count = len(sources)
    total = np.zeros(sources[0].shape, np.uint32)
    for source in sources:
        total += source
    return ((total + count // 2) // count).astype(np.uint8)


def pyramid(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Blends Laplacian pyramids by saliency (Burt and Adelson 1983; Mertens et al. 2007).

    A source is salient where it differs from its surroundings, by detail or by brightness: warm
    bodies as well as texture come through at the strength they have in their own image.

    Args:
      sources: `uint8 (H, W, 3)` images of one size.
    """
    lumas, colours = _split(sources)
    weights = _normalised([_saliency(luma) ** _SHARPNESS + _FLOOR for luma in lumas])
    depth = max(1, int(np.log2(min(lumas[0].shape))) - 2)
    blended: list[np.ndarray] = []
    for luma, weight in zip(lumas, weights, strict=True):
        shares = _gaussian_pyramid(weight, depth)
        bands = _laplacian_pyramid(luma, depth)
        parts = [share * band for share, band in zip(shares, bands, strict=True)]
        blended = [a + b for a, b in zip(blended, parts, strict=True)] if blended else parts
    fused = blended[-1]
    for band in blended[-2::-1]:
        fused = cv2.pyrUp(fused, dstsize=band.shape[::-1]) + band
    return _join(fused, colours)


def gradient(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Takes the strongest gradient at every pixel and the image that has them (Perez et al. 2003).

    The brightness is held near the pyramid blend's, so that large areas keep their level.

    Args:
      sources: `uint8 (H, W, 3)` images of one size.
    """
    lumas, colours = _split(sources)
    across = np.stack([np.diff(luma, axis=1, append=luma[:, -1:]) for luma in lumas])
    down = np.stack([np.diff(luma, axis=0, append=luma[-1:]) for luma in lumas])
    strongest = np.argmax(across**2 + down**2, axis=0)[None]
    across, down = (np.take_along_axis(g, strongest, axis=0)[0] for g in (across, down))
    level = _split([pyramid(sources)])[0][0]
    return _join(screened_poisson(across, down, level, _SCREENING), colours)


PSEUDO_TARGETS: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    "mean": mean,
    "pyramid": pyramid,
    "gradient": gradient,
}


def _split(sources: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Luminances, float32 (H, W) in 0..255, and the colour (H, W, 2) of the more colourful."""
    converted = [cv2.cvtColor(source, cv2.COLOR_RGB2YCrCb).astype(np.float32) for source in sources]
    colours = np.stack([image[..., 1:] - 128 for image in converted])
    strength = np.square(colours).sum(axis=-1, keepdims=True) + 1e-6
    return [image[..., 0] for image in converted], (colours * strength).sum(0) / strength.sum(0)


def _join(luma: np.ndarray, colours: np.ndarray) -> np.ndarray:
    whole = np.concatenate([luma[..., None], colours + 128], axis=-1)
    return cv2.cvtColor(np.clip(np.rint(whole), 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)


def _saliency(luma: np.ndarray) -> np.ndarray:
    """Local contrast and prominence over the whole image, each of order one."""
    low = cv2.GaussianBlur(luma, (0, 0), _SALIENCY_SIGMA)
    detail = cv2.GaussianBlur(np.abs(luma - low), (0, 0), _SALIENCY_SIGMA)
    prominence = np.abs(low - luma.mean()) / 3
    return (detail + prominence) / 255


def _normalised(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    total = np.sum(weights, axis=0)
    return [weight / total for weight in weights]


def _gaussian_pyramid(image: np.ndarray, depth: int) -> list[np.ndarray]:
    levels = [image]
    for _ in range(depth):
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def _laplacian_pyramid(image: np.ndarray, depth: int) -> list[np.ndarray]:
    levels = _gaussian_pyramid(image, depth)
    bands = [
        fine - cv2.pyrUp(coarse, dstsize=fine.shape[::-1])
        for fine, coarse in itertools.pairwise(levels)
    ]
    return [*bands, levels[-1]]
