"""Aligns a pair of images: the warp, how sure it is, and the refusal where it is not."""

import dataclasses

import cv2
import numpy as np

from ditfuse_jax.align.estimate import AUTO, estimate_direction
from ditfuse_jax.align.geometry import MODELS, corner_distance, translation
from ditfuse_jax.align.residual import (
    RESIDUAL,
    confidence_in,
    estimate_residual,
    is_registered,
)
from ditfuse_jax.align.warp import Warp
from ditfuse_jax.checks import check_choice
from ditfuse_jax.errors import UserError

# What `estimate_alignment` may be asked for.
ALIGNMENTS = (AUTO, *MODELS, RESIDUAL)
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
        the one estimated backwards; of `residual`, median distance of the shifts of drawn blocks.
      confidence: the product of three numbers from 0 to 1: how far the similarity at the warp is
        above that of unrelated images, how many starts led to it, how well both directions agree.
        Of `residual`, how far the blocks of the images agree on the shift.
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
      model: a name in `MODELS`; `auto` for the simplest that explains the pair; or `residual` for
        a shift of a few pixels between images of one size, which is cheaper and surer.

    Returns:
      The alignment, sure or not: see `Alignment.confident`.

    Raises:
      UserError: unknown model, an image too small, or different sizes for `residual`.
    """
    check_choice("alignment model", model, ALIGNMENTS)
    if model == RESIDUAL:
        return _residual(reference, moving)
    greys = []
    for image in (reference, moving):
        if min(image.shape[:2]) < _MIN_SIDE:
            raise UserError(
                f"an image of {image.shape[1]}x{image.shape[0]} is too small to be aligned: "
                f"both sides need {_MIN_SIDE} pixels"
            )
        greys.append(_grey(image))
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


def residual_warp(alignment: Alignment) -> Warp:
    """Returns the warp that undoes a residual shift: none if it is not sure, or hardly a shift."""
    warp = alignment.warp
    if alignment.confident and not is_registered(warp.matrix, warp.reference_size):
        return warp
    return dataclasses.replace(warp, matrix=np.eye(3))


def describe_residual(alignment: Alignment) -> str:
    """Says what `residual_warp` does about a shift, and why."""
    x, y = alignment.warp.matrix[:2, 2]
    sure = f"confidence {alignment.confidence:.2f}"
    if not alignment.confident:
        return f"left as it is: {alignment.reason} ({sure}, needed {MIN_CONFIDENCE})"
    if is_registered(alignment.warp.matrix, alignment.warp.reference_size):
        return f"left as it is: the shift of ({x:.1f}, {y:.1f}) px is too small to matter ({sure})"
    return f"a shift of ({x:.1f}, {y:.1f}) px undone ({sure})"


def _residual(reference: np.ndarray, moving: np.ndarray) -> Alignment:
    size = height, width = reference.shape[:2]
    if moving.shape[:2] != size:
        raise UserError(
            f"images of {width}x{height} and {moving.shape[1]}x{moving.shape[0]} are no registered "
            "pair with a residual shift: use --align without a value"
        )
    found = estimate_residual(_grey(reference), _grey(moving))
    x, y = found.shift
    return Alignment(
        Warp("translation", translation(x, y), size, size),
        found.spread,
        confidence_in(found),
        float((1 - abs(x) / width) * (1 - abs(y) / height)),
        "their blocks do not agree on one small shift",
    )


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full((3, 3), np.nan)
