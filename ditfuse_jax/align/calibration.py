"""One warp for all pairs of two fixed cameras, kept in a JSON file."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.align.geometry import (
    MODELS,
    corner_distance,
    corners,
    from_parameters,
    jacobian,
    transform,
)
from ditfuse_jax.align.pair import Alignment, AlignmentError
from ditfuse_jax.align.warp import Warp
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason, write_text
from ditfuse_jax.paths import as_path

_FORMAT = "ditfuse_jax alignment 1"
# A pair agrees with the calibration if no corner is farther from it, in shares of the longer side.
_AGREES = 0.01


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The warps of a rig of fixed cameras.

    Attributes:
      warps: of the second, third, ... image to the first.
      pairs: how many sure alignments of the second image it was estimated from.
      spread: median corner distance in pixels between those and the calibration.
      filled: images keep the size of the first one, as `residual` has it; else what any lacks is
        cut off.
    """

    warps: tuple[Warp, ...]
    pairs: int
    spread: float
    filled: bool = False

    def __str__(self) -> str:
        if self.filled:
            shifts = ", ".join(
                "({:.1f}, {:.1f}) px".format(*warp.matrix[:2, 2]) for warp in self.warps
            )
            return f"shift {shifts} from {self.pairs} sure pairs, spread {self.spread:.2f} px"
        models = ", ".join(warp.model for warp in self.warps)
        return f"{models} from {self.pairs} pairs, spread {self.spread:.2f} px"


def calibrate(alignments: Sequence[Alignment]) -> tuple[Warp, float]:
    """Returns the warp that most pairs agree on, and their spread around it.

    The median position of each corner, over all sure pairs, then again over those that agree with
    it; pairs that are not sure do not count.  The model is the one most pairs have.

    Raises:
      AlignmentError: no pair is sure, or less than half of the sure ones agree.
      UserError: images of different sizes.
    """
    sizes = {(a.warp.reference_size, a.warp.moving_size) for a in alignments}
    if len(sizes) > 1:
        raise UserError("one calibration needs pairs of one size: align each by itself (--align)")
    sure = [a.warp for a in alignments if a.confident]
    if not sure:
        raise AlignmentError(
            f"none of {len(alignments)} pairs could be aligned: no calibration is possible"
        )
    height, width = sure[0].reference_size
    points = corners(height, width)
    placed = np.stack([transform(warp.matrix, points) for warp in sure])
    models = [warp.model for warp in sure]
    model = max(MODELS, key=lambda name: (models.count(name), -MODELS.index(name)))
    median = np.median(placed, axis=0)
    # Of several pairs, the first median may be between two groups.
    near = np.linalg.norm(placed - median, axis=-1).max(-1) <= _AGREES * max(height, width)
    if 2 * near.sum() < len(sure) or not near.any():
        raise AlignmentError(
            f"only {near.sum()} of {len(sure)} aligned pairs agree on one warp: the cameras moved, "
            "align each pair by itself (--align)"
        )
    matrix = _fit(model, points, np.median(placed[near], axis=0))
    distances = [corner_distance(matrix, warp.matrix, height, width) for warp in sure]
    warp = Warp(model, matrix, sure[0].reference_size, sure[0].moving_size)
    return warp, float(np.median(distances))


def write_calibration(path: Path | str, calibration: Calibration) -> None:
    """Writes a calibration as JSON.

    Raises:
      UserError: the file cannot be written.
    """
    values = {
        "format": _FORMAT,
        "warps": [warp.to_dict() for warp in calibration.warps],
        "pairs": calibration.pairs,
        "spread": calibration.spread,
        "filled": calibration.filled,
    }
    write_text(as_path(path), json.dumps(values, indent=2) + "\n")


def read_calibration(path: Path | str) -> Calibration:
    """Reads the file of `write_calibration`.

    Raises:
      UserError: there is no such file, or it is another one.
    """
    path = as_path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise ValueError("format")
        warps = tuple(Warp.from_dict(warp) for warp in values["warps"])
        if not warps:
            raise ValueError("warps")
        filled = bool(values.get("filled", False))
        return Calibration(warps, int(values["pairs"]), float(values["spread"]), filled)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a calibration: write one with ditfuse fuse ... --align-save FILE"
        ) from error


def _fit(model: str, points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the matrix of a model that maps four points to their targets, by least squares."""
    if model == "homography":
        return cv2.getPerspectiveTransform(points.astype(np.float32), targets.astype(np.float32))
    # These models are linear in their parameters: target = point + jacobian @ parameters.
    design = jacobian(model, points).reshape(8, -1)
    change = np.linalg.lstsq(design, (targets - points).ravel(), rcond=None)[0]
    return from_parameters(model, change)
