"""Decodes image files to `uint8 (H, W, 3)` RGB; what cannot be decoded is a `UserError`.

- Grey becomes three equal channels; palettes and CMYK become RGB.
- Transparent pixels are composited over black.
- 16-bit channels keep their high byte (`value >> 8`), grey and colour alike; but the counts of a
  14-bit thermal sensor, which would be nearly black, are scaled (`grey16_to_uint8`).
- The EXIF orientation is applied, so height and width are those that a viewer shows.
- Files with several frames (animated WebP, multi-page TIFF) give the first one.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
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

_SENSOR_RANGE = 2**14
_PERCENTILES = (0.5, 99.5)
_SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap height and width

_pillow_limit_lock = threading.Lock()


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the image in a file, `uint8 (H, W, 3)` RGB.

    Raises:
      UserError: missing, a folder, empty, not an image, damaged, truncated, or larger than
        `max_pixels` (judged by the header, before anything is decoded).
    """
    with open_image(path, max_pixels=max_pixels) as image:
        return decode_opened(image, str(path))


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the image in an encoded byte string, `uint8 (H, W, 3)` RGB.

    `name` is what error messages call the bytes.

    Raises:
      UserError: as `read_image`.
    """
    with open_bytes(data, name, max_pixels=max_pixels) as image:
        return decode_opened(image, name)


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


def load_upright(image: Image.Image) -> None:
    """Decodes the pixels of an opened image and applies its EXIF orientation."""
    image.load()
    # The pixels are decoded: a damaged EXIF block is ignored.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def decode_opened(image: Image.Image, name: str) -> np.ndarray:
    """Returns the pixels of an opened image, `uint8 (H, W, 3)` RGB; see the module's docstring.

    Raises:
      UserError: signed or 32-bit pixels.
    """
    load_upright(image)
    if image.mode.startswith("I;16"):
        grey = grey16_to_uint8(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UserError(
            f"{name}: signed or 32-bit pixels have no defined black and white:"
            " save it with 8 or 16 bits per channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


def grey16_to_uint8(values: np.ndarray) -> np.ndarray:
    """Converts 16-bit grey values to 8 bits: `uint16 (H, W)` -> `uint8 (H, W)`.

    An image with values of 2^14 or more keeps the high bytes, like Pillow's conversion of 16-bit
    colour.  So do 8-bit values that were stored in 16 bits (all multiples of 256, or of 257) and
    flat images.

    Other images are taken for the counts of a thermal sensor, whose scene fills a small part of its
    range: the 0.5th percentile becomes black and the 99.5th white, linearly between.  Each image is
    scaled separately, so equal counts in two frames may get different greys.
    """
    widened = not (values % 256).any() or not (values % 257).any()
    if values.max() >= _SENSOR_RANGE or widened or values.min() == values.max():
        return (values >> 8).astype(np.uint8)
    low, high = np.percentile(values, _PERCENTILES)
    if low == high:  # nearly all pixels are equal
        low, high = values.min(), values.max()
    scaled = (values.astype(np.float32) - low) * (255 / (high - low))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def _known_suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))
