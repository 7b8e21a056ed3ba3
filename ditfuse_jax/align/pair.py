"""Aligns a pair of images: the warp, how sure it is, and the refusal where it is not."""

import dataclasses

import cv2
import numpy as np

from ditfuse_jax.align.estimate import AUTO, estimate_direction
from ditfuse_jax.align.geometry import MODELS, corner_distance
from ditfuse_jax.align.warp import Warp
from ditfuse_jax.checks import check_choice
from ditfuse_jax.errors import UserError

# Measured: docs/alignment.md.
MIN_CONFIDENCE = 0.4
_MIN_SIDE = 32
# The score that unrelated images reach, and one that is beyond doubt.
_CHANCE, _SURE = 0.1, 0.3
# What is left of the confidence if one start alone led to the warp; three leave all of it.
_ONE_START, _ENOUGH_STARTS = 0.45, 3
# Corner distance of the two directions, in shares of the longer side, at which nothing is left of
# the confidence; small images are taken for ones of this side.
_DIRECTIONS, _DIRECTIONS_SIDE = 0.01, 400


class AlignmentError(UserError):
    """Two images were not aligned, because the warp between them is not sure."""


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A warp between two images and how sure it is.

    Attributes:
      warp: reference -> moving image.
      residual: corner distance in pixels of the reference between the warp estimated forwards and
        the one estimated backwards.
      confidence: the product of three numbers from 0 to 1: how far the similarity at the warp is
        above that of unrelated images, how many starts led to it, how well both directions agree.
      overlap: share of the reference that has a partner.
      reason: which of them was least, in words.
    """

    warp: Warp
    residual: float
    confidence: float
    overlap: float
    reason: str

    @property
    def confident(self) -> bool:
        """Whether the warp may be used."""
        return self.confidence >= MIN_CONFIDENCE

    def __str__(self) -> str:
        return (
            f"{self.warp.model}, {self.overlap:.0%} overlap, residual {self.residual:.2f} px, "
            f"confidence {self.confidence:.2f}"
        )


def estimate_alignment(reference: np.ndarray, moving: np.ndarray, model: str = AUTO) -> Alignment:
    """Estimates the warp between two images of one scene, also of different modalities.

    Orientations of edges are compared: a search over rotation (up to 9 degrees), scale (up to a
    third) and shift (up to a fifth of the side) by Fourier correlation at 96 pixels, then
    Gauss-Newton steps at 160, 320 and 640 pixels; all of it twice, with the images exchanged.

    Args:
      reference: uint8 (H, W, 3).
      moving: uint8 (H', W', 3), of another size if need be: that of the same field of view.
      model: a name in `MODELS`, or `auto` for the simplest that explains the pair.

    Returns:
      The alignment, sure or not: see `Alignment.confident`.

    Raises:
      UserError: unknown model, or an image too small.
    """
    check_choice("alignment model", model, (AUTO, *MODELS))
    greys = []
    for image in (reference, moving):
        if min(image.shape[:2]) < _MIN_SIDE:
            raise UserError(
                f"an image of {image.shape[1]}x{image.shape[0]} is too small to be aligned: "
                f"both sides need {_MIN_SIDE} pixels"
            )
        greys.append(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32))
    forward = estimate_direction(greys[0], greys[1], model)
    backward = estimate_direction(greys[1], greys[0], forward.model)
    height, width = greys[0].shape
    residual = corner_distance(forward.matrix, _inverse(backward.matrix), height, width)
    score = min(forward.score, backward.score)
    tolerance = _DIRECTIONS * max(height, width, _DIRECTIONS_SIDE)
    starts = min(forward.starts, backward.starts)
    parts = {
        "their edges do not match": (score - _CHANCE) / (_SURE - _CHANCE),
        "several warps fit equally well": _ONE_START
        + (1 - _ONE_START) * (starts - 1) / (_ENOUGH_STARTS - 1),
        "the warps there and back differ": 1 - residual / tolerance,
    }
    parts = {name: float(np.clip(np.nan_to_num(x, nan=0.0), 0, 1)) for name, x in parts.items()}
    reason = min(parts, key=lambda name: parts[name])
    confidence = float(np.prod(list(parts.values())))
    warp = Warp(forward.model, forward.matrix, reference.shape[:2], moving.shape[:2])
    return Alignment(warp, residual, confidence, forward.overlap, reason)


def check_confident(alignment: Alignment, names: tuple[str, str]) -> None:
    """Raises AlignmentError unless an alignment of the images of these names is sure."""
    if not alignment.confident:
        raise AlignmentError(
            f"{names[1]} could not be aligned with {names[0]}: {alignment.reason} (confidence "
            f"{alignment.confidence:.2f}, needed {MIN_CONFIDENCE}); use a saved calibration "
            "(--align FILE) or align them by hand"
        )


def _inverse(matrix: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full((3, 3), np.nan)
