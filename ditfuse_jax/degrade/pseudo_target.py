"""Targets for fusion tasks without ground truth, computed from the registered sources.

They choose between sources by luminance, and take the colour of the more colourful source, since
infrared images have none.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from ditfuse_jax.degrade.poisson import screened_poisson
from ditfuse_jax.registry import Registry

# Sigma of the windows in which saliency is measured, in pixels.
_SALIENCY_SIGMA = 5.0
# Exponent of the saliency, and the least weight of a source.
_SHARPNESS = 2.0
_FLOOR = 1e-3
# Sigma of the windows in which the bands' strengths are compared, in pixels of the pyramid level.
_BAND_SIGMA = 1.0
# Weight of the initial brightness in gradient fusion.
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
    bodies as well as texture keep the contrast of their source.

    Args:
      sources: `uint8 (H, W, 3)` images of one size.
    """
    lumas, colours = _split(sources)
    depth = max(1, int(np.log2(min(lumas[0].shape))) - 2)
    shares = _saliency_pyramids(lumas, depth)
    bands = [_laplacian_pyramid(luma, depth) for luma in lumas]
    return _join(_collapse([_weighted(*level) for level in _by_level(shares, bands)]), colours)


def detail(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Takes each band of the pyramid where it is strongest (Burt and Kolczynski 1993).

    The coarsest level is blended by saliency, as in `pyramid`.

    Args:
      sources: `uint8 (H, W, 3)` images of one size.
    """
    lumas, colours = _split(sources)
    depth = max(1, int(np.log2(min(lumas[0].shape))) - 2)
    bands = [_laplacian_pyramid(luma, depth) for luma in lumas]
    *details, rest = zip(*bands, strict=True)
    *_, shares = zip(*_saliency_pyramids(lumas, depth), strict=True)
    return _join(_collapse([*map(_strongest, details), _weighted(shares, rest)]), colours)


def gradient(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the image with the strongest gradient at every pixel (Perez et al. 2003).

    The brightness is kept near that of `pyramid`, so that large areas keep their level.

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


PseudoTarget = Callable[[Sequence[np.ndarray]], np.ndarray]

PSEUDO_TARGETS: Registry[PseudoTarget] = Registry(
    "pseudo-target", {"mean": mean, "pyramid": pyramid, "gradient": gradient, "detail": detail}
)


def _split(sources: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns luminances, float32 (H, W) in 0..255, and the colour (H, W, 2)."""
    converted = [cv2.cvtColor(source, cv2.COLOR_RGB2YCrCb).astype(np.float32) for source in sources]
    colours = np.stack([image[..., 1:] - 128 for image in converted])
    strength = np.square(colours).sum(axis=-1, keepdims=True) + 1e-6
    return [image[..., 0] for image in converted], (colours * strength).sum(0) / strength.sum(0)


def _join(luma: np.ndarray, colours: np.ndarray) -> np.ndarray:
    whole = np.concatenate([luma[..., None], colours + 128], axis=-1)
    return cv2.cvtColor(np.clip(np.rint(whole), 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)


def _saliency(luma: np.ndarray) -> np.ndarray:
    """Returns local contrast plus the difference from the mean, each of order one."""
    low = cv2.GaussianBlur(luma, (0, 0), _SALIENCY_SIGMA)
    detail = cv2.GaussianBlur(np.abs(luma - low), (0, 0), _SALIENCY_SIGMA)
    prominence = np.abs(low - luma.mean()) / 3
    return (detail + prominence) / 255


def _saliency_pyramids(lumas: Sequence[np.ndarray], depth: int) -> list[list[np.ndarray]]:
    weights = _normalised([_saliency(luma) ** _SHARPNESS + _FLOOR for luma in lumas])
    return [_gaussian_pyramid(weight, depth) for weight in weights]


def _by_level(
    shares: list[list[np.ndarray]], bands: list[list[np.ndarray]]
) -> Iterator[tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]]:
    return zip(zip(*shares, strict=True), zip(*bands, strict=True), strict=True)


def _weighted(shares: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> np.ndarray:
    return np.sum([share * image for share, image in zip(shares, images, strict=True)], axis=0)


def _strongest(bands: Sequence[np.ndarray]) -> np.ndarray:
    strengths = [cv2.GaussianBlur(np.abs(band), (0, 0), _BAND_SIGMA) for band in bands]
    chosen = np.argmax(strengths, axis=0)[None]
    return np.take_along_axis(np.stack(bands), chosen, axis=0)[0]


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


def _collapse(bands: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the image of a Laplacian pyramid."""
    image = bands[-1]
    for band in bands[-2::-1]:
        image = cv2.pyrUp(image, dstsize=band.shape[::-1]) + band
    return image
