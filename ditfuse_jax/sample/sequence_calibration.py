"""One warp between the cameras of a sequence: warps of single frames would make it tremble."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.align import ALIGNMENTS, calibrate_stacks, read_calibration, write_calibration
from ditfuse_jax.align.calibration import Calibration
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import check_text_file
from ditfuse_jax.images import SourceRanges
from ditfuse_jax.images.frames import FrameSource, PairedFrames
from ditfuse_jax.images.in_memory import LoadedImage
from ditfuse_jax.images.video import spread_places
from ditfuse_jax.paths import as_path

_FRAMES = 8  # by which a warp is estimated
_DECIMALS = 3  # of a pixel, by which two warps are told apart


def sequence_calibration(
    sources: Sequence[FrameSource],
    pairs: PairedFrames,
    ranges: SourceRanges,
    *,
    align: str | Path | None,
    align_save: Path | None,
    quiet: bool,
) -> Calibration | None:
    """Returns the calibration of a sequence, which is read, or estimated and saved.

    Args:
      sources, pairs: the frames, and which of them belong together.
      ranges: of the frames' samples.
      align, align_save: see `fuse`; None if neither is given.
      quiet: print nothing.

    Raises:
      UserError: contradicting settings, an unreadable calibration, or none can be estimated.
    """
    if align is None and align_save is None:
        return None
    model = "auto" if align is None else str(align)
    if model not in ALIGNMENTS:
        if align_save is not None:
            raise UserError(
                f"--align {model} names a calibration, so there is none to save: give a model "
                f"({', '.join(ALIGNMENTS)}) with --align-save"
            )
        return read_calibration(model)

    if align_save is not None:
        check_text_file(as_path(align_save))

    def read(image: Any, source: int) -> np.ndarray:
        return ranges.read(image, source)

    stacks: list[Sequence[Any]] = list(sample_pairs(sources, pairs, _FRAMES))
    if not stacks:
        raise UserError(
            f"{sources[0].path}: none of the frames by which the cameras would be aligned can be "
            "read together with those of the other sources"
        )
    calibration = calibrate_stacks(stacks, model, read)
    if align_save is not None:
        write_calibration(align_save, calibration)
    if not quiet:
        where = f" {align_save}" if align_save else ""
        print(f"calibration{where}: {calibration}")
    return calibration


def calibration_key(calibration: Calibration) -> str:
    """Returns a text that differs between calibrations: where the corners of the images go.

    Two estimates from the same frames are one: they differ by rounding, since threads add up in any
    order.
    """
    texts = []
    for warp in calibration.warps:
        height, width = (side - 1 for side in warp.reference_size)
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
        moved = corners @ np.asarray(warp.matrix, np.float64).T
        places = np.round(moved[:, :2] / moved[:, 2:], _DECIMALS) + 0.0  # without -0
        texts.append(f"{warp.reference_size} {warp.moving_size} {places.tolist()}")
    return "; ".join(texts)


def sample_pairs(
    sources: Sequence[FrameSource], pairs: PairedFrames, count: int
) -> list[tuple[LoadedImage, ...]]:
    """Returns up to `count` stacks of frames that are fused with each other, spread evenly.

    A stack is left out if one of its frames cannot be read.
    """
    places = spread_places(pairs.count, count)
    found = [
        dict(source.at(numbers[places]))
        for source, numbers in zip(sources, pairs.numbers, strict=True)
    ]
    wanted = [[int(numbers[place]) for numbers in pairs.numbers] for place in places]
    return [
        tuple(frames[number] for frames, number in zip(found, numbers, strict=True))
        for numbers in wanted
        if all(number in frames for frames, number in zip(found, numbers, strict=True))
    ]
