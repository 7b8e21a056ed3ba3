"""Aligns a pair of images: the warp, how sure it is, and the refusal where it is not."""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from ditfuse_jax.align.estimate import AUTO, RICHER, SIMPLE, Direction
from ditfuse_jax.align.geometry import MODELS, translation
from ditfuse_jax.align.residual import RESIDUAL, estimate_residual, is_registered
from ditfuse_jax.align.verify import check_warp, confidence_in, confidence_nearby, shrink_of
from ditfuse_jax.align.warp import Warp
from ditfuse_jax.checks import check_choice
from ditfuse_jax.errors import UserError

# What `estimate_alignment` may be asked for.
ALIGNMENTS = (AUTO, *MODELS, RESIDUAL)
# Measured: docs/alignment.md.
MIN_CONFIDENCE = 0.4
# A shift or similarity of less is compared with richer models.
_CLEAR = 0.7
# By how much the correlation of a model must be higher than that of the one before it.
_GAIN = 1.03
# Share of the draws of blocks in which one homography nearby is better, from which a model is too
# simple.
_TOO_SIMPLE = 0.9
# Of what a model that is too simple leaves of the correlation: which share richer ones have to
# explain to be taken, or to leave it in doubt; and a homography of what an affine warp leaves.
_EXPLAINED, _DOUBTFUL, _EXPLAINED_MORE = 0.08, 0.05, 0.02
_MIN_SIDE = 48
# Pixels, at 640, of a shift left in a half of the image at which nothing is left of the confidence.
_RESIDUAL = 4.5
_NO_MATCH = "their edges do not match"
_DIFFERENT = "parts of them need different warps"


class AlignmentError(UserError):
    """Two images were not aligned, because the warp between them is not sure."""


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A warp between two images and how sure it is.

    Attributes:
      warp: reference -> moving image.
      residual: pixels by which a half of the reference (upper, lower, left, right) would have to be
        shifted further, at most; of `residual`, median distance of the shifts of drawn blocks.
      confidence: 0 to 1, how far blocks of the images agree on what shift is left, how small the
        residual is, and how far all warps near this one are worse; of `residual`, how far blocks
        agree on the shift.
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
    Gauss-Newton steps at 160, 320 and 640 pixels.  Then blocks are matched: none may need a further
    shift, and every warp nearby has to match worse.  If that is not so, richer models are tried,
    another result of the search, and all of it with the images exchanged.

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
    found: list[Alignment] = []
    for order in (1, -1):  # The other direction has other local optima.
        direction = Direction(*greys[::order])
        for rank, start in enumerate(direction.starts(model)):
            # Richer models fit anything: only the likeliest start may have them.
            richer = tuple(RICHER) if model == AUTO and rank == 0 else ()
            found += _from_simple_to_rich(direction, order, greys, start, model, richer)
            best = max(found, key=lambda one: one.confidence)
            if best.confident:
                return best
    return best


def _from_simple_to_rich(
    direction: Direction,
    order: int,
    greys: Sequence[np.ndarray],
    start: np.ndarray,
    model: str,
    richer: Sequence[str],
) -> list[Alignment]:
    """Returns the warp near a start and, if that is not clear, richer ones that fit better.

    Args:
      direction: between the images as they are (`order` 1) or exchanged (-1).
      greys: the images, reference first.
      start, model: see `Direction.refine`.
      richer: models, simplest first.
    """

    def checked(matrix: np.ndarray, name: str) -> tuple[Alignment, bool]:
        alignment, outdone = _checked(greys, matrix if order == 1 else _inverse(matrix), name)
        return alignment, model == AUTO and outdone >= _TOO_SIMPLE

    plain = taken = last = direction.refine(start, SIMPLE if model == AUTO else model)
    alignment, too_simple = checked(plain.matrix, plain.model)
    if alignment.confidence >= _CLEAR and not too_simple:
        return [alignment]
    found: list[Alignment] = []
    most = plain.score
    for name in richer:
        last = direction.refine(last.matrix, name)
        most = max(most, last.score)
        # Parallax alone makes richer models fit better.
        needed = max(plain.score * RICHER[name], taken.score * _GAIN)
        if too_simple:
            more = taken.score + _EXPLAINED_MORE * (1 - taken.score)
            needed = min(needed, max(plain.score + _EXPLAINED * (1 - plain.score), more))
        if last.score > needed:
            taken = last
            rich, in_doubt = checked(last.matrix, name)
            found.append(_doubted(rich) if in_doubt else rich)
    doubtful = plain.score + _DOUBTFUL * (1 - plain.score)
    if too_simple and (most >= doubtful or not richer):
        alignment = _doubted(alignment)
    return [alignment, *found]


def _doubted(alignment: Alignment) -> Alignment:
    return dataclasses.replace(alignment, confidence=0.0, reason=_DIFFERENT)


def _checked(
    greys: Sequence[np.ndarray], matrix: np.ndarray, model: str
) -> tuple[Alignment, float]:
    """Returns a warp with what its check says, and `Nearby.outdone`."""
    size, moving_size = (image.shape for image in greys)
    warp = Warp(model, matrix / matrix[2, 2], size, moving_size)
    if not np.isfinite(warp.matrix).all():
        return Alignment(warp, math.inf, 0.0, 0.0, _NO_MATCH), 0.0
    left, overlap, nearby = check_warp(greys[0], greys[1], matrix, model)
    residual = float(np.linalg.norm(left.halves, axis=1).max())
    blocks, determined = confidence_in(left), confidence_nearby(nearby, model)
    halves = max(0, 1 - residual * shrink_of(size) / _RESIDUAL)
    parts = [
        (blocks, _NO_MATCH),
        (halves, _DIFFERENT),
        (determined, "the edges they share do not determine the warp"),
    ]
    confidence, reason = min(blocks * halves, determined), min(parts)[1]
    return Alignment(warp, residual, confidence, overlap, reason), nearby.outdone


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
