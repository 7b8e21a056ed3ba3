"""Decodes image files to RGB arrays (H, W, 3); what cannot be decoded is a `UserError`.

- Arrays are uint8, or on demand uint16 for files with more than 8 bits per channel; black is 0 and
  white 255 or 65535.  Which samples of such a file become black and white: `images.ranges`.
- Grey becomes three equal channels; palettes and CMYK become RGB.
- Transparent pixels are composited over black.
- The EXIF orientation is applied, so height and width are those that a viewer shows.
- Files with several frames (animated WebP, multi-page TIFF) give the first one.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.ranges import apply_range, choose_range, measure_samples, parse_range
from ditfuse_jax.images.samples import Samples, as_rgb, stored_samples
from ditfuse_jax.paths import as_path, is_remote

MAX_PIXELS = 200_000_000

# Pillow's name of a format -> suffixes of its files.  Only these decoders run, whatever the suffix:
# some of Pillow's other decoders start external programs.
_FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in _FORMATS.values() for suffix in suffixes)

_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap height and width

_pillow_limit_lock = threading.Lock()


def read_image(
    path: str | os.PathLike[str],
    *,
    value_range: str | Sequence[float] = "auto",
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Returns the image in a file, `uint8 (H, W, 3)` RGB.

    Args:
      path: the file.
      value_range: of files with more than 8 bits per channel: `auto`, `percentile`, `camera`,
        `full` or two numbers, see `images.ranges`.  Frames of a sequence need a common one, see
        `SourceRanges`.
      max_pixels: larger images are refused.

    Raises:
      UserError: missing, a folder, empty, not an image, damaged, truncated, or larger than
        `max_pixels` (judged by the header, before anything is decoded).
    """
    return to_rgb8(read_samples(path, max_pixels=max_pixels), str(path), value_range)


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the image in an encoded byte string, `uint8 (H, W, 3)` RGB.

    `name` is what error messages call the bytes.

    Raises:
      UserError: as `read_image`.
    """
    return to_rgb8(decode_samples(data, name, max_pixels=max_pixels), name)


def decode_samples(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Samples:
    """Returns the samples in an encoded byte string as they are stored.

    Raises:
      UserError: as `read_image`.
    """
    with open_bytes(data, name, max_pixels=max_pixels) as image:
        return stored_samples(image, name)


def read_samples(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Samples:
    """Returns the samples of a file as they are stored.

    Raises:
      UserError: as `read_image`.
    """
    with open_image(path, max_pixels=max_pixels) as image:
        return stored_samples(image, str(path))


def to_rgb8(samples: Samples, name: str, value_range: str | Sequence[float] = "auto") -> np.ndarray:
    """Converts stored samples to `uint8 (H, W, 3)` RGB."""
    choice = parse_range(value_range)
    if samples.values.dtype == np.uint8:
        return samples.values
    chosen = choose_range([measure_samples(samples.values, samples.full_range)], choice, name)
    return as_rgb(apply_range(samples.values, chosen))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns (height, width) as a viewer shows the image; reads only the file's header.

    Raises:
      UserError: as `read_image`, for errors that the header shows.
    """
    with open_image(path) as image:
        width, height = image.size
        sideways = False
        if image.format != "TIFF":  # Pillow orients the size of TIFF files itself
            with contextlib.suppress(Exception):  # see `load_upright`
                sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    return (width, height) if sideways else (height, width)


def local_or_remote(path: str | os.PathLike[str]) -> Path:
    """Returns a path that is not the user's text: `~` is a name like any other."""
    return as_path(path) if "://" in os.fspath(path) else Path(path)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the image files directly inside a folder, sorted by name, without hidden files.

    Raises:
      UserError: there is no such folder, or no image in it.
    """
    folder = local_or_remote(folder)
    try:
        # In an object store a folder without files does not exist.
        if not is_remote(folder) and not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        files = [
            path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not path.name.startswith(".")
            # An object store would be asked about each one.
            and (is_remote(path) or path.is_file())
        ]
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({reason(error)})") from error
    if not files:
        raise UserError(f"{folder}: no images in this folder (looked for {_known_suffixes()})")
    return files


@contextlib.contextmanager
def open_image(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Opens a file as a Pillow image: the header is read, the pixels are not decoded yet.

    Raises:
      UserError: as `read_image`; also for exceptions of Pillow inside the `with` block.
    """
    path = local_or_remote(path)
    try:
        # Of an object store, everything in one request.
        stream = io.BytesIO(path.read_bytes()) if is_remote(path) else path.open("rb")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder, not an image file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be opened ({error})") from error
    with stream, _opened(stream, str(path), max_pixels) as image:
        yield image


@contextlib.contextmanager
def open_bytes(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens an encoded byte string like `open_image`."""
    with _opened(io.BytesIO(data), name, max_pixels) as image:
        yield image


@contextlib.contextmanager
def _opened(stream: IO[bytes], name: str, max_pixels: int) -> Iterator[Image.Image]:
    try:
        if not stream.read(1):
            raise UserError(f"{name}: is empty (0 bytes)")
        stream.seek(0)
        with _pillow_open(stream) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise UserError(
                    f"{name}: {width}x{height} pixels exceed the limit of"
                    f" {max_pixels / 1e6:g} megapixels: downscale it first"
                )
            yield image
    except (UserError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        known = _known_suffixes()
        raise UserError(f"{name}: is not an image of a supported format ({known})") from error
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: is damaged or truncated ({text})") from error


def _pillow_open(stream: IO[bytes]) -> Image.Image:
    # Pillow's global limit is lower than ours, which is checked right afterwards.
    with _pillow_limit_lock:
        pillow_limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(stream, formats=tuple(_FORMATS))
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit


def _known_suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))
