"""Requests that apply to a part of the image only.

The scene is fused twice, with the request and without it, from the same noise.  The result is the
fusion with the request inside the region and, to the bit, the fusion without it outside.  The
border is feathered inside the region.
"""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import files_by_stem, load_image, read_image
from ditfuse_jax.images.decode import to_rgb8
from ditfuse_jax.images.in_memory import as_array
from ditfuse_jax.images.pairs import shared_name
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.requests import CLASSES, Request
from ditfuse_jax.prompts.taught_requests import TaughtRequests
from ditfuse_jax.sample.fusion_input import FusionInput, RegionInput
from ditfuse_jax.sample.instructions import Instruction, make_instruction
from ditfuse_jax.sample.standard_prompts import STANDARD_TASKS

DEFAULT_FEATHER = 0.02  # of the shorter side
_BLACK, _WHITE = 13, 242  # grey levels of a mask up to which, and from which; JPEG keeps neither


def _check_feather(feather: float) -> float:
    if not 0 <= feather < np.inf:
        raise UserError(f"feather must be 0 or more pixels, not {feather}")
    return feather


def region_weights(mask: np.ndarray, feather: float | None = None) -> np.ndarray:
    """Returns how far the request applies, float32 (H, W), from 0 to 1.

    Args:
      mask: uint8 (H, W); white is the region, greys apply in part.
      feather: width in pixels over which the weights rise from the region's border inwards; 0
        leaves the mask's own border; by default 2 % of the shorter side.

    Raises:
      UserError: `feather` is negative or not finite, or nothing of the mask is white.
    """
    width = DEFAULT_FEATHER * min(mask.shape) if feather is None else _check_feather(feather)
    weights = np.clip((mask.astype(np.float32) - _BLACK) / (_WHITE - _BLACK), 0, 1)
    inside = weights > 0
    if not inside.any():
        raise UserError(
            f"the region is empty, its brightest grey level is {mask.max()}: the request applies"
            " where the mask is white, 255"
        )
    if width > 0 and not inside.all():
        # Distances of 1, 2, ... pixels to the outside become places in the middle of the pixels.
        distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        rise = np.clip((distance - 0.5) / width, 0, 1)
        weights *= rise * rise * (3 - 2 * rise)
    return weights


def check_region_size(item: RegionInput) -> None:
    """Checks that the region of an input has the size of its sources.

    Raises:
      UserError: it has not; the message gives both sizes.
    """
    if item.weights is not None and item.weights.shape != item.sources[0].shape[:2]:
        (height, width), (h, w) = item.weights.shape, item.sources[0].shape[:2]
        raise UserError(f"the region is {width}x{height}, but the images are {w}x{h}")


class MarkedClass(str):
    """The name of a class that the model marks; never that of a file."""


class Regions:
    """The regions of a job, as a user names them: a mask, a folder of masks, or a class.

    Attributes:
      description: what the metadata of images say of the region.
    """

    def __init__(
        self,
        region: Any,
        feather: float | None,
        sampling: SamplingConfig,
        task: str,
    ):
        """Finds the masks.

        Args:
          region: an image file, white where the request applies; a folder of such files with the
            names of the stacks, those of nested stacks in nested folders; a mask in memory, an
            array uint8 or bool (H, W) or an image of Pillow; or one of `CLASSES`, which the model
            marks, if there is no such file or it is a `MarkedClass`.
          feather: see `region_weights`.
          sampling: whose `requests` say whether the model marks classes.
          task: of the fusion without the request, if it is one of `STANDARD_TASKS`.

        Raises:
          UserError: no such file or class, the model does not mark classes, or a bad `feather`.
        """
        self._feather = feather if feather is None else _check_feather(feather)
        self._sampling = sampling
        self._task = task if task in STANDARD_TASKS else "fuse"
        self._class = ""
        self._is_stored = False  # in files
        self._masks: dict[str, dict[str, Path]] | None = None  # folder in it -> stem -> mask
        self._read: tuple[Path, np.ndarray] | None = None
        if not isinstance(region, str | os.PathLike):
            self._path = Path("mask")
            self._read = self._path, _grey_mask(region)
            self.description = "mask"
            return
        if isinstance(region, MarkedClass):
            self._class = self.description = _checked_class(region, sampling)
            return
        self._path = as_path(region)
        self.description = self._path.name
        self._is_stored = self._path.exists()
        if self._path.is_dir():
            self._masks = {}
        elif not self._path.exists():
            self._class = self.description = _checked_class(str(region), sampling)

    def check_outputs(self, outputs: Iterable[Path]) -> None:
        """Checks that no output is a mask.

        Raises:
          UserError: one is the mask, or lies in the folder of the masks.
        """
        if not self._is_stored:
            return
        region = Path(os.path.realpath(self._path))
        for output in outputs:
            place = Path(os.path.realpath(output))
            if region == place or (self._masks is not None and region in place.parents):
                raise UserError(f"{output} is a region, or among them: choose another output")

    def check(self, instruction: Instruction, count: int) -> None:
        """Checks that an instruction for `count` images asks for more than the plain fusion.

        Raises:
          UserError: it does not.
        """
        if any(request.axis == "repair" for request in instruction.requests):
            raise UserError("a repair restores a whole source, so it cannot be limited to a region")
        if self._plain(count) == instruction.prompt and not instruction.applied:
            raise UserError(
                "a region limits a request, and this asks for the plain fusion: say what to do"
                " there (prompt, adjustments or task)"
            )

    def limit(
        self,
        item: FusionInput,
        name: str,
        cut: tuple[slice, slice] | None = None,
    ) -> RegionInput:
        """Returns the input with its region.

        Args:
          item: the sources, of the size after `cut`, and the prompt with the request.
          name: of the stack.
          cut: the part of the first image that alignment left.

        Raises:
          UserError: there is no mask for these images, or it does not fit them.
        """
        count = len(item.sources)
        fields: dict[str, Any] = {
            field.name: getattr(item, field.name) for field in dataclasses.fields(FusionInput)
        }
        fields |= {"plain": self._plain(count), "name": name}
        if self._class:
            mark = Request("segment", classes=(self._class,))
            fields["name"] = f"{self._class} in {name}"
            return RegionInput(**fields, mark=mark, feather=self._feather)
        path = self._mask_of(name)
        mask = self._mask(path)
        try:
            weights = region_weights(mask if cut is None else mask[cut], self._feather)
            found = RegionInput(**fields, weights=weights)
            check_region_size(found)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        return found

    def _plain(self, count: int) -> str:
        return make_instruction(None, count, self._sampling, self._task).prompt

    def _mask_of(self, name: str) -> Path:
        """Returns the mask of a stack, whose name holds the folders in which it lies."""
        if self._masks is None:
            return self._path
        folder, _, stem = name.rpartition("/")
        stem = shared_name(stem)
        if folder not in self._masks:
            place = self._path / folder
            self._masks[folder] = files_by_stem(place) if place.is_dir() else {}
        if stem not in self._masks[folder]:
            nested = "; those of images in folders lie in folders of these names" if folder else ""
            raise UserError(f"{self._path}: no mask named {name}{nested}")
        return self._masks[folder][stem]

    def _mask(self, path: Path) -> np.ndarray:
        """Reads a mask, uint8 (H, W); the one that was read last is kept."""
        if self._read is None or self._read[0] != path:
            self._read = path, cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
        return self._read[1]


def _grey_mask(mask: Any) -> np.ndarray:
    """Returns a copy of a mask in memory, uint8 (H, W): the caller may change theirs."""
    if isinstance(mask, Image.Image):  # its greys are those of a file
        pixels = to_rgb8(load_image(mask, "the region").samples, "the region")
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mask = as_array(mask, "the region")
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        raise UserError(
            f"the region is an array of {mask.dtype} {mask.shape}: give uint8 (height, width), 255"
            " where the request applies, or bool"
        )
    return mask.copy() if mask.dtype == np.uint8 else mask.astype(np.uint8) * 255


def _checked_class(name: str, sampling: SamplingConfig) -> str:
    if name not in CLASSES:
        raise UserError(
            f"region {name!r}: no such file, and no class: give a mask, white where the request"
            f" applies, or one of {', '.join(CLASSES)}"
        )
    if "segment" not in TaughtRequests.parse(sampling.requests).levels:
        raise UserError(
            f"region {name}: this model was not taught to mark classes: give a mask, white where"
            " the request applies"
        )
    return name
