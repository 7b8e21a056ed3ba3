"""From the files of a stack to the records that are packed."""

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

_JPEG_QUALITY = 95
_JPEG_START = b"\xff\xd8"
_LEAST_SIDE = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """What is packed under one name.

    Attributes:
      name: unique in its source.
      images: encoded files.
      size: their (height, width).
      moments: see `MomentsPacker`.
    """

    name: str
    images: tuple[bytes, ...]
    size: tuple[int, int]
    moments: np.ndarray | None = None


class Packer(Protocol):
    """Makes records; it travels to the packing processes."""

    @property
    def options(self) -> dict[str, Any]:
        """What decides the records' content, as JSON; continuing needs it to be the same."""
        ...

    @property
    def moments(self) -> tuple[int, int, int] | None:
        """Shape of a record's moments, if it holds any."""
        ...

    def __call__(
        self, name: str, paths: Sequence[Path], labels: Container[int]
    ) -> Sequence[Record]:
        """Packs one stack.

        Raises:
          UserError: a file cannot be used.
        """
        ...


@dataclasses.dataclass(frozen=True)
class FilePacker:
    """Packs files as they are, decoded once to know that they are images.

    Where pixels must change they are encoded anew: JPEG stays JPEG, all else becomes PNG.

    Attributes:
      max_side: longer images are scaled down to this many pixels.
      resize: images of another size than their stack's first are scaled to it, else refused.
    """

    max_side: int | None = None
    resize: bool = False
    moments: None = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < _LEAST_SIDE:
            raise UserError(f"max_side must be at least {_LEAST_SIDE} pixels, not {self.max_side}")

    @property
    def options(self) -> dict[str, Any]:
        return {"max_side": self.max_side, "resize": self.resize}

    def __call__(
        self, name: str, paths: Sequence[Path], labels: Container[int]
    ) -> Sequence[Record]:
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
        return [Record(name, tuple(files), (height, width))]


def encode(image: np.ndarray, suffix: str) -> bytes:
    """Returns a `uint8 (H, W, 3)` RGB image as a file's bytes; JPEG at quality 95."""
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
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
