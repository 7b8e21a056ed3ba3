"""Stacks: registered images of one scene, all of the same size."""

import os
from collections.abc import Sequence

import cv2
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.pairs import check_same_size
from ditfuse_jax.images.source_ranges import ImageSource, SourceRanges

_MAX_ASPECT_DIFFERENCE = 0.02  # relative


def read_stack(
    paths: Sequence[ImageSource],
    *,
    resize: bool = False,
    ranges: SourceRanges | None = None,
    depth: int | None = 8,
) -> tuple[np.ndarray, ...]:
    """Reads registered images, `uint8 (H, W, 3)` each, or uint16 if `depth` asks for it.

    Args:
      paths: one file per image; or images in memory.
      resize: images of another size than the first are scaled to it.
      ranges: of the samples of files with more than 8 bits; by default measured for these files.
      depth: see `SourceRanges.read`.

    Raises:
      UserError: as `read_image`; without `resize` also if sizes differ, with it if aspect ratios
        differ, since such images cannot be registered by scaling.
    """
    ranges = ranges or SourceRanges([paths], quiet=True)
    images = [ranges.read(path, k, depth) for k, path in enumerate(paths)]
    names = list(map(str, paths))
    if not resize:
        try:
            check_same_size(images, names)
        except UserError as error:
            raise UserError(f"{error}; --resize scales them to the first") from error
        return tuple(images)
    check_same_aspect_ratio(images, names)
    height, width = images[0].shape[:2]
    return (images[0], *(resize_image(image, height, width) for image in images[1:]))


def check_same_aspect_ratio(
    images: Sequence[np.ndarray], names: Sequence[str | os.PathLike[str]]
) -> None:
    """Raises UserError unless all images `(H, W, ...)` have the first one's aspect ratio."""
    height, width = images[0].shape[:2]
    for image, name in zip(images[1:], names[1:], strict=True):
        own = image.shape[1] / image.shape[0]
        if abs(own * height / width - 1) > _MAX_ASPECT_DIFFERENCE:
            raise UserError(
                f"{name} is {image.shape[1]}x{image.shape[0]} and {names[0]} is {width}x{height}: "
                "their aspect ratios differ, so resizing would not register them; crop them first"
            )


def resize_image(image: np.ndarray, height: int, width: int, *, labels: bool = False) -> np.ndarray:
    """Resizes an image `(H, W, ...)`: area average where it shrinks, cubic where it grows.

    Labels are resized by nearest neighbour, since class numbers cannot be interpolated.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    if labels:
        interpolation = cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=interpolation)
