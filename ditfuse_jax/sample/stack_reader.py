"""Reads the stacks that are fused, and aligns them if asked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tqdm

from ditfuse_jax.align import (
    ALIGNMENTS,
    AUTO,
    align_stack,
    calibrate_stacks,
    read_calibration,
    write_calibration,
)
from ditfuse_jax.align.calibration import Calibration
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import check_text_file
from ditfuse_jax.images import ImageSource, SourceRanges, read_stack
from ditfuse_jax.paths import as_path


class StackReader:
    """Reads stacks of files, aligned if asked.

    Attributes:
      alignment: what the metadata say of the alignment of the stack that was read last.
      cut: the rows and columns of its first image that are left; None for all.
      notes: what is to be known of how its images were read, in one line; empty if nothing.
    """

    def __init__(
        self,
        stacks: Sequence[Sequence[Path]],
        ranges: SourceRanges,
        *,
        resize: bool = False,
        align: str | Path | None = None,
        align_save: Path | None = None,
        calibration: Calibration | None = None,
        quiet: bool = False,
    ):
        """Prepares the alignment: reads a calibration, or estimates and saves one.

        Args:
          stacks: the files of each stack.
          ranges: of the files' samples.
          calibration: the warps to align with, if they are known already.
          resize, align, align_save, quiet: see `fuse`.

        Raises:
          UserError: contradicting settings, an unreadable calibration, or none can be estimated.
        """
        if resize and (align is not None or align_save is not None):
            raise UserError("--resize and --align exclude each other: aligned images have one size")
        self.alignment: str | None = None
        self.cut: tuple[slice, slice] | None = None
        self.notes = ""
        self._ranges = ranges
        self._resize = resize
        self._quiet = quiet
        self._align = align is not None or align_save is not None
        self._model = AUTO if align is None else str(align)
        self._calibration = calibration
        names_model = self._model in ALIGNMENTS
        if align_save is not None:
            if not names_model:
                raise UserError(
                    f"--align {align} names a calibration, so there is none to save: give a model "
                    f"({', '.join(ALIGNMENTS)}) with --align-save"
                )
            check_text_file(as_path(align_save))
            self._calibration = calibrate_stacks(stacks, self._model, ranges.read)
            write_calibration(align_save, self._calibration)
            if not quiet:
                print(f"calibration {align_save}: {self._calibration}")
        elif self._align and not names_model and calibration is None:
            self._calibration = read_calibration(self._model)

    def read(self, paths: tuple[ImageSource, ...]) -> tuple[np.ndarray, ...]:
        """Reads a stack, (H, W, 3) of one size each, and sets `alignment`, `cut` and `notes`.

        Raises:
          UserError: an image cannot be read, sizes differ, or the images cannot be aligned.
        """
        images = self._read(paths)
        found = self._ranges.notes
        self.notes = "; ".join(
            f"image {k + 1}: {note}" for k in range(len(paths)) for note in found.get(k, ())
        )
        return images

    def _read(self, paths: tuple[ImageSource, ...]) -> tuple[np.ndarray, ...]:
        if not self._align:
            return read_stack(paths, resize=self._resize, ranges=self._ranges, depth=None)
        images = [self._ranges.read(path, k, None) for k, path in enumerate(paths)]
        names = list(map(str, paths))
        stack = align_stack(images, names, model=self._model, calibration=self._calibration)
        if not self._quiet:
            tqdm.tqdm.write(f"{Path(names[0]).name}: {stack}")
        self.alignment, self.cut = stack.metadata, (stack.rows, stack.columns)
        return stack.images
