"""Turns the files of a stack into the records of packed data."""

import dataclasses
import math
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import (
    check_same_aspect_ratio,
    check_same_size,
    decode_image,
    decode_labels,
    resize_image,
)
from ditfuse_jax.paths import is_remote
from ditfuse_jax.pipeline.access import read_object

_JPEG_QUALITY = 95
_JPEG_START = b"\xff\xd8"
_MIN_SIDE = 16


@dataclasses.dataclass(frozen=True, eq=False)
class PackedRecord:
    """One record of packed data.

    Attributes:
      name: unique in its source.
      images: encoded files.
      size: (height, width) of the images.
      moments: (h, w, 2 C) of the first image's latents, see `MomentsPacker`.
    """

    name: str
    images: tuple[bytes, ...]
    size: tuple[int, int]
    moments: np.ndarray | None = None


class Packer(Protocol):
    """Makes records of a stack; it is pickled for the packing processes."""

    @property
    def options(self) -> dict[str, Any]:
        """The options that decide the records' content, as JSON; a continued run needs the same."""
        ...

    @property
    def moments(self) -> tuple[int, int, int] | None:
        """Shape (h, w, 2 C) of a record's moments, or None."""
        ...

    def __call__(
        self, name: str, paths: Sequence[Path], labels: Container[int]
    ) -> Sequence[PackedRecord]:
        """Packs one stack.

        Raises:
          UserError: a file cannot be used.
        """
        ...


@dataclasses.dataclass(frozen=True)
class FilePacker:
    """Packs files unchanged, after decoding them once as a check.

    Images that are resized are encoded again: JPEG as JPEG, everything else as PNG.

    Attributes:
      max_side: longer images are scaled down to this many pixels.
      resize: scale images to the size of their stack's first; otherwise other sizes are an error.
    """

    max_side: int | None = None
    resize: bool = False
    moments: None = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < _MIN_SIDE:
            raise UserError(f"max_side must be at least {_MIN_SIDE} pixels, not {self.max_side}")

    @property
    def options(self) -> dict[str, Any]:
        return {"max_side": self.max_side, "resize": self.resize}

    def __call__(
        self, name: str, paths: Sequence[Path], labels: Container[int]
    ) -> Sequence[PackedRecord]:
        """See `Packer`."""
        files = [_read(path) for path in paths]
        images = [
            (decode_labels if k in labels else decode_image)(file, str(path))
            for k, (file, path) in enumerate(zip(files, paths, strict=True))
        ]
        (check_same_aspect_ratio if self.resize else check_same_size)(images, paths)
        height, width = _limited(images[0].shape[:2], self.max_side)
        for k, image in enumerate(images):
            if image.shape[:2] == (height, width):
                continue
            is_jpeg = k not in labels and files[k].startswith(_JPEG_START)
            scaled = resize_image(image, height, width, labels=k in labels)
            files[k] = encode(scaled, ".jpg" if is_jpeg else ".png")
        return [PackedRecord(name, tuple(files), (height, width))]


def encode(image: np.ndarray, suffix: str) -> bytes:
    """Encodes a `uint8 (H, W, 3)` RGB image in the format of a suffix; JPEG has quality 95."""
    done, encoded = cv2.imencode(
        suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    assert done
    return encoded.tobytes()


def _limited(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    longest = max(size)
    if max_side is None or longest <= max_side:
        return size
    height, width = (max(1, math.floor(side * max_side / longest + 0.5)) for side in size)
    return height, width


def _read(path: Path) -> bytes:
    if is_remote(path):
        return read_object(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
