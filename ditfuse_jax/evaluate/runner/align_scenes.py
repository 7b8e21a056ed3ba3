"""Aligns the source images of scenes, as `ditfuse fuse --align` does."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ditfuse_jax.align import ALIGNMENTS, align_stack, read_calibration
from ditfuse_jax.align.calibration import Calibration
from ditfuse_jax.errors import UserError


class SceneAligner:
    """Brings the sources of each scene onto the pixels of the first one.

    A scene is read several times, to be fused, scored and shown: the warps are estimated once.
    """

    def __init__(self, align: str | Path):
        """Creates an aligner.

        Args:
          align: the model of the warps, or a calibration file; see `fuse`.

        Raises:
          UserError: neither a model nor a readable calibration.
        """
        self._model = str(align)
        self._calibration = None
        if self._model not in ALIGNMENTS:
            self._calibration = read_calibration(self._model)
        self._found: dict[str, Calibration] = {}

    def __call__(
        self,
        stem: str,
        images: Sequence[np.ndarray],
        names: Sequence[Path | str],
        clean: np.ndarray | None = None,
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
        """Returns the aligned sources and the clean image, cut to what all sources show.

        Args:
          stem: of the scene.
          images: its sources, uint8 (H, W, 3) of any sizes.
          names: of the sources, for messages.
          clean: of the first source's size, on whose pixels it lies.

        Raises:
          UserError: the sources cannot be aligned, or the clean image has another size.
        """
        if clean is not None and clean.shape != images[0].shape:
            raise UserError(f"{stem}: the clean image and {names[0]} differ in size")
        known = self._calibration or self._found.get(stem)
        aligned = align_stack(images, names, model=self._model, calibration=known)
        if known is None:
            self._found[stem] = Calibration(aligned.warps, 1, 0.0, aligned.filled)
            if not all(alignment.confident for alignment in aligned.alignments):
                print(f"{stem}: {aligned}", file=sys.stderr)
        cut = None if clean is None else clean[aligned.rows, aligned.columns]
        return aligned.images, cut
