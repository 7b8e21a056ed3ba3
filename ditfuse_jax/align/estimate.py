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
# Starts of the refinement, and steps of it at each size, at most.
_STARTS, _STEPS = 6, 12
# How many of the first refinement's results are kept, and how far apart they are, in its pixels.
_KEPT, _DISTINCT = 2, 3.0
# The simplest model that explains a pair; a shift or a similarity.
AUTO, SIMPLE = "auto", "simple"
# What else it may be, and by which factor the correlation must be higher than the similarity's.
# Parallax alone gains up to 14 % on RoadScene.
RICHER = {"affine": 1.10, "homography": 1.15}
# A shift stands for a similarity that moves no corner farther from it, in pixels.
_SHIFT_ENOUGH = 0.75


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


class Direction:
    """Estimates warps from one image to the other, grey, float32 (h, w) and (h', w')."""

    def __init__(self, reference: np.ndarray, moving: np.ndarray):
        h, w = reference.shape
        moving_h, moving_w = moving.shape
        ratio = float(np.sqrt(moving_h * moving_w / (h * w)))
        shift = ((moving_w - w) / 2, (moving_h - h) / 2)
        self._initial = similarity_about(((w - 1) / 2, (h - 1) / 2), ratio, 0, shift)
        self._pyramid = _Pyramid(reference, moving, ratio)
        self._size = (h, w)

    def starts(self, model: str) -> list[np.ndarray]:
        """Returns distinct rough warps, the likeliest first: reference pixels -> moving pixels."""
        fixed, other, to_fixed, to_other = self._pyramid.at(_SEARCH_SIDE)
        free = model != "translation"
        initial = to_other @ self._initial @ np.linalg.inv(to_fixed)
        found = search(fixed, other, initial, scales=free)
        rough = [np.linalg.inv(to_other) @ c.matrix @ to_fixed for c in found[:_STARTS]]
        # Whoever took the pair may have registered it already.
        rough.append(self._initial)
        fixed, other, to_fixed, to_other = self._pyramid.at(_SIDES[0])
        level = Level(fixed, other)
        coarse = "similarity" if free else model
        refined = [
            level.refine(to_other @ m @ np.linalg.inv(to_fixed), coarse, _STEPS) for m in rough
        ]
        refined.sort(key=lambda r: -r.score * np.sqrt(r.overlap))
        distinct: list[np.ndarray] = []
        for warp in (r.matrix for r in refined):
            if all(corner_distance(warp, other, *fixed.shape) > _DISTINCT for other in distinct):
                distinct.append(warp)
        return [np.linalg.inv(to_other) @ m @ to_fixed for m in distinct[:_KEPT]]

    def refine(self, start: np.ndarray, model: str) -> DirectedEstimate:
        """Returns the warp of a model, or of the simpler one of `SIMPLE`, near a start."""
        side, result, best = max(self._size), start, Refined(start, 0.0, 0.0)
        for size in _SIDES[1:]:
            fixed, other, to_fixed, to_other = self._pyramid.at(size)
            level, last = Level(fixed, other), side <= size or size == _SIDES[-1]
            start = to_other @ result @ np.linalg.inv(to_fixed)
            best = level.refine(start, "similarity" if model == SIMPLE else model, _STEPS)
            # Small images do not tell a small rotation from none.
            if model == SIMPLE and last:
                model, best = _simplest_model(level, best, fixed.shape, side / max(fixed.shape))
            result = np.linalg.inv(to_other) @ best.matrix @ to_fixed
            if last:
                break
        return DirectedEstimate(result / result[2, 2], model, best.score, best.overlap)


def _simplest_model(
    level: Level, best: Refined, shape: tuple[int, ...], scale: float
) -> tuple[str, Refined]:
    """Returns a shift in place of a similarity that comes near one, else the similarity."""
    height, width = shape[:2]
    # That of the middle of the image.
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    plain = translation(*(transform(best.matrix, centre) - centre))
    if corner_distance(plain, best.matrix, height, width) * scale < _SHIFT_ENOUGH:
        return "translation", level.refine(plain, "translation", _STEPS)
    return "similarity", best
