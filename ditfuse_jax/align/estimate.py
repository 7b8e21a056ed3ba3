"""Estimates the warp between two images of one scene, coarse to fine."""

import dataclasses

import cv2
import numpy as np

from ditfuse_jax.align.geometry import (
    corner_distance,
    pixel_scaling,
    similarity_about,
    transform,
    translation,
)
from ditfuse_jax.align.refine import Level, Refined
from ditfuse_jax.align.search import search

# Longer sides in pixels of the search and of the refinements.
_SEARCH_SIDE = 96
_SIDES = (160, 320, 640)
# Starts of the refinement.
_STARTS = 6
# The simplest model that explains a pair.
AUTO = "auto"
# A shift stands for a similarity that moves no corner farther from it, in pixels.
_SHIFT_ENOUGH = 0.75
# By how much the score of a richer model must be higher than the similarity's, and than that of the
# best model before it.
_GAINS = {"affine": 0.10, "homography": 0.12}
_GAIN = 0.03


@dataclasses.dataclass(frozen=True)
class DirectedEstimate:
    """A warp estimated in one direction.

    Attributes:
      matrix: reference pixels -> moving pixels.
      model: a name in `MODELS`.
      score: correlation of the descriptors at the warp, at most 1.
      overlap: share of the reference that has a partner.
    """

    matrix: np.ndarray
    model: str
    score: float
    overlap: float


class _Pyramid:
    """Both images at any resolution."""

    def __init__(self, reference: np.ndarray, moving: np.ndarray, ratio: float):
        self._images = (reference, moving)
        self._ratio = ratio

    def at(self, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns both small images and the maps from full to small pixels."""
        shrink = min(1.0, side / max(self._images[0].shape))
        small = []
        for image, factor in zip(
            self._images, (shrink, min(1.0, shrink / self._ratio)), strict=True
        ):
            height, width = (max(8, round(n * factor)) for n in image.shape)
            small.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        to_small = [
            pixel_scaling(i.shape[:2], s.shape[:2])
            for i, s in zip(self._images, small, strict=True)
        ]
        return small[0], small[1], to_small[0], to_small[1]


def estimate_direction(reference: np.ndarray, moving: np.ndarray, model: str) -> DirectedEstimate:
    """Returns the warp of a model between grey images, float32 (h, w) and (h', w')."""
    h, w = reference.shape
    side = max(h, w)
    moving_h, moving_w = moving.shape
    ratio = float(np.sqrt(moving_h * moving_w / (h * w)))
    shift = ((moving_w - w) / 2, (moving_h - h) / 2)
    initial = similarity_about(((w - 1) / 2, (h - 1) / 2), ratio, 0, shift)
    pyramid = _Pyramid(reference, moving, ratio)

    fixed, other, to_fixed, to_other = pyramid.at(_SEARCH_SIDE)
    free = model != "translation"
    found = search(fixed, other, to_other @ initial @ np.linalg.inv(to_fixed), scales=free)
    starts = [np.linalg.inv(to_other) @ c.matrix @ to_fixed for c in found[:_STARTS]]

    fixed, other, to_fixed, to_other = pyramid.at(_SIDES[0])
    level = Level(fixed, other)
    coarse = "similarity" if free else model
    refined = [level.refine(to_other @ m @ np.linalg.inv(to_fixed), coarse, 8) for m in starts]
    if not refined:
        return DirectedEstimate(initial, coarse, 0.0, 0.0)
    best = max(refined, key=lambda r: r.score * np.sqrt(r.overlap))
    result = np.linalg.inv(to_other) @ best.matrix @ to_fixed
    for size in _SIDES[1:]:
        fixed, other, to_fixed, to_other = pyramid.at(size)
        level = Level(fixed, other)
        start = to_other @ result @ np.linalg.inv(to_fixed)
        if model == AUTO:
            model, best = _simplest_model(level, start, fixed.shape, side / max(fixed.shape))
        else:
            best = level.refine(start, model, 6)
        result = np.linalg.inv(to_other) @ best.matrix @ to_fixed
        if side <= size:
            break
    matrix = result / result[2, 2]
    return DirectedEstimate(matrix, model, best.score, best.overlap)


def _simplest_model(
    level: Level, start: np.ndarray, shape: tuple[int, ...], scale: float
) -> tuple[str, Refined]:
    """Returns the simplest model that explains a pair, and its warp.

    A richer model must improve the score and move a corner; a shift must come near the similarity.
    """
    height, width = shape[:2]
    model, best = "similarity", level.refine(start, "similarity", 6)
    # A shift is tried from the similarity's place in the middle of the image.
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = transform(best.matrix, centre) - centre
    plain = translation(*shift)
    if corner_distance(plain, best.matrix, height, width) * scale < _SHIFT_ENOUGH:
        return "translation", level.refine(plain, "translation", 6)
    plain_score = best.score
    for richer, gain in _GAINS.items():
        tried = level.refine(best.matrix, richer, 5)
        moved = corner_distance(tried.matrix, best.matrix, height, width)
        needed = max(plain_score * (1 + gain), best.score * (1 + _GAIN))
        if tried.score > needed and moved * scale > 1:
            model, best = richer, tried
    return model, best
