"""Aligns the images of a stack to the first one, and cuts off what has no partner."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.align.calibration import Calibration, calibrate
from ditfuse_jax.align.estimate import AUTO
from ditfuse_jax.align.pair import (
    Alignment,
    AlignmentError,
    check_confident,
    describe_residual,
    estimate_alignment,
    residual_warp,
)
from ditfuse_jax.align.residual import RESIDUAL
from ditfuse_jax.align.warp import Warp, common_rectangle, resample
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image, with_depth

# Less in common is hardly a picture.
_MIN_KEPT = 0.25


@dataclasses.dataclass(frozen=True)
class AlignedStack:
    """Images of one size, aligned with the first one.

    Attributes:
      images: (h, w, 3) each, uint8 or uint16 as they were given.
      warps: of the second, third, ... image to the first, in pixels before the cut.
      rows, columns: the part of the first image that is left.
      kept: its share of the first image.
      alignments: how sure the warps are; empty for those of a calibration.
      filled: whether borders without a partner are filled from the nearest edge, not cut off.
    """

    images: tuple[np.ndarray, ...]
    warps: tuple[Warp, ...]
    rows: slice
    columns: slice
    kept: float
    alignments: tuple[Alignment, ...] = ()
    filled: bool = False

    @property
    def metadata(self) -> str:
        """JSON of the warps, the cut (x, y, width, height) and the evidence."""
        values = {
            "warps": [warp.to_dict() for warp in self.warps],
            "cut": [
                self.columns.start,
                self.rows.start,
                self.columns.stop - self.columns.start,
                self.rows.stop - self.rows.start,
            ],
            "residual": [round(a.residual, 3) for a in self.alignments],
            "confidence": [round(a.confidence, 3) for a in self.alignments],
        }
        return json.dumps(values)

    def __str__(self) -> str:
        if self.filled and self.alignments:
            return "; ".join(map(describe_residual, self.alignments))
        what = "; ".join(map(str, self.alignments)) or "saved calibration"
        return f"{what}; {self.kept:.1%} of the first image kept"


def align_stack(
    images: Sequence[np.ndarray],
    names: Sequence[Path | str],
    *,
    model: str = AUTO,
    calibration: Calibration | None = None,
) -> AlignedStack:
    """Brings images onto the pixels of the first one and cuts off what any of them lacks.

    With `residual` nothing is cut off or refused: what is not sure, or hardly moves, is left as it
    is, and borders are filled from the nearest edge.

    Args:
      images: two to four, uint8 or uint16 (H, W, 3), of any sizes; 8 bits decide about the warps.
      names: for messages.
      model: see `estimate_alignment`.
      calibration: use these warps instead of estimating them.

    Raises:
      AlignmentError: a warp is not sure, or too little is left.
      UserError: the calibration is of other images.
    """
    alignments: tuple[Alignment, ...] = ()
    if calibration is None:
        first, *others = (with_depth(image, 8) for image in images)
        alignments = tuple(estimate_alignment(first, image, model) for image in others)
        filled = model == RESIDUAL
        if filled:
            warps = tuple(map(residual_warp, alignments))
        else:
            for alignment, name in zip(alignments, names[1:], strict=True):
                check_confident(alignment, (str(names[0]), str(name)))
            warps = tuple(alignment.warp for alignment in alignments)
    else:
        warps, filled = calibration.warps, calibration.filled
        _check_calibration(calibration, images, names)
    resampled = [resample(image, warp) for image, warp in zip(images[1:], warps, strict=True)]
    everything = np.ones(images[0].shape[:2], bool)
    rows, columns = common_rectangle([everything if filled else mask for _, mask in resampled])
    whole = (images[0], *(image for image, _ in resampled))
    cut = tuple(np.ascontiguousarray(image[rows, columns]) for image in whole)
    kept = cut[0][..., 0].size / images[0][..., 0].size
    if kept < _MIN_KEPT:
        raise AlignmentError(
            f"{names[0]}: only {kept:.0%} of it would be left after the alignment: the images show "
            "too little in common"
        )
    return AlignedStack(cut, warps, rows, columns, kept, alignments, filled)


def calibrate_stacks(
    stacks: Sequence[Sequence[Any]],
    model: str = AUTO,
    read: Callable[[Any, int], np.ndarray] | None = None,
) -> Calibration:
    """Estimates one calibration over all stacks of a folder; see `calibrate`.

    Args:
      stacks: the files of each stack, or what `read` takes.
      model: see `estimate_alignment`.
      read: reads one, uint8 (H, W, 3), of this position in its stack; `read_image` by default.

    Raises:
      UserError: see `calibrate`; stacks that cannot be read are passed over.  With `residual`,
        pairs that do not agree are no error: the calibration leaves images as they are.
    """
    found: list[list[Alignment]] = [[] for _ in stacks[0][1:]]
    for paths in stacks:
        try:
            images = [read(path, k) if read else read_image(path) for k, path in enumerate(paths)]
            estimates = [estimate_alignment(images[0], image, model) for image in images[1:]]
        except UserError:
            continue  # whoever uses the calibration for these files reports it
        for alignments, estimate in zip(found, estimates, strict=True):
            alignments.append(estimate)
    filled = model == RESIDUAL
    fitted = [(_one_shift if filled else calibrate)(alignments) for alignments in found]
    sure = min(sum(a.confident for a in alignments) for alignments in found)
    spread = max(spread for _, spread in fitted)
    return Calibration(tuple(warp for warp, _ in fitted), sure, spread, filled)


def _one_shift(alignments: Sequence[Alignment]) -> tuple[Warp, float]:
    """Returns the shift that sure pairs agree on, and their spread; no shift if there is none."""
    try:
        warp, spread = calibrate(alignments)
    except AlignmentError:
        if not alignments:
            raise
        return dataclasses.replace(alignments[0].warp, matrix=np.eye(3)), 0.0
    agreed = dataclasses.replace(alignments[0], warp=warp, confidence=1.0)
    return residual_warp(agreed), spread


def _check_calibration(
    calibration: Calibration, images: Sequence[np.ndarray], names: Sequence[Path | str]
) -> None:
    if len(images) != len(calibration.warps) + 1:
        raise UserError(
            f"{names[0]}: the calibration is for {len(calibration.warps) + 1} images, not "
            f"{len(images)}"
        )
    for image, name, warp in zip(images[1:], names[1:], calibration.warps, strict=True):
        pairs = ((names[0], images[0], warp.reference_size), (name, image, warp.moving_size))
        for path, pixels, size in pairs:
            if pixels.shape[:2] != size:
                raise UserError(
                    f"{path} is {pixels.shape[1]}x{pixels.shape[0]}, but the calibration was made "
                    f"from {size[1]}x{size[0]}: calibrate again with --align-save FILE"
                )
