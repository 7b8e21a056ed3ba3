"""The global search: rotation, scale and shift by Fourier correlation of small images."""

import dataclasses

import cv2
import numpy as np

from ditfuse_jax.align.descriptors import orientation_descriptors
from ditfuse_jax.align.geometry import similarity_about, translation

# The grid; the refinement converges from half a step away.
_DEGREES = np.arange(-9.0, 9.1, 3.0)
_SCALES = np.exp(np.arange(-5, 6) * 0.06)
# Of the side.  A larger shift leaves too little in common.
_MAX_SHIFT = 0.2
_MIN_OVERLAP = 0.5


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A warp that the search found.

    Attributes:
      score: correlation of the descriptors where the images overlap, at most 1.
      matrix: pixels of the small reference -> pixels of the small moving image.
    """

    score: float
    matrix: np.ndarray


def search(
    reference: np.ndarray, moving: np.ndarray, initial: np.ndarray, scales: bool = True
) -> list[Candidate]:
    """Returns the best shift for each rotation and scale of the grid, best first.

    Args:
      reference: float32 (h, w), about 100 pixels wide.
      moving: float32 (h', w').
      initial: the warp in the middle of the grid, reference pixels -> moving pixels.
      scales: also search over rotation and scale.
    """
    h, w = reference.shape
    limit = (int(_MAX_SHIFT * h), int(_MAX_SHIFT * w))
    shape = tuple(cv2.getOptimalDFTSize(n + m + 1) for n, m in zip((h, w), limit, strict=True))
    fixed = orientation_descriptors(reference)
    fixed -= fixed.mean(axis=(1, 2), keepdims=True)
    everywhere = np.ones((h, w), np.float32)
    fixed_f, energy_f, area_f = (
        np.conj(np.fft.rfft2(x, shape)) for x in (fixed, (fixed * fixed).sum(0), everywhere)
    )
    centre = ((w - 1) / 2, (h - 1) / 2)
    covered = np.ones(moving.shape, np.float32)
    found = []
    for degrees in _DEGREES if scales else (0.0,):
        for scale in _SCALES if scales else (1.0,):
            base = initial @ similarity_about(centre, scale, degrees)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            mask = cv2.warpPerspective(covered, base, (w, h), flags=flags)
            mask = cv2.erode((mask > 0.999).astype(np.float32), np.ones((7, 7)), borderValue=1)
            if mask.mean() < _MIN_OVERLAP:
                continue
            image = cv2.warpPerspective(
                moving, base, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE
            )
            other = orientation_descriptors(image)
            other -= (other * mask).sum(axis=(1, 2), keepdims=True) / mask.sum()
            other *= mask
            mask_f = np.fft.rfft2(mask, shape)
            other_energy_f = np.fft.rfft2((other * other).sum(0), shape)
            products, overlap, energy, other_energy = np.fft.irfft2(
                np.stack(
                    [
                        (np.fft.rfft2(other, shape) * fixed_f).sum(0),
                        mask_f * area_f,
                        mask_f * energy_f,
                        other_energy_f * area_f,
                    ]
                ),
                shape,
            )
            correlation = products / np.sqrt(np.maximum(energy * other_energy, 1e-3))
            share = overlap / (h * w)
            # By chance, small overlaps correlate more.
            score = np.where(share > _MIN_OVERLAP, correlation * np.sqrt(np.maximum(share, 0)), -1)
            score = np.roll(score, limit, (0, 1))[: 2 * limit[0] + 1, : 2 * limit[1] + 1]
            y, x = divmod(int(score.argmax()), score.shape[1])
            matrix = base @ translation(x - limit[1], y - limit[0])
            found.append(Candidate(float(score[y, x]), matrix))
    return sorted(found, key=lambda candidate: -candidate.score)
