"""Decodes image files to RGB arrays (H, W, 3); what cannot be decoded is a `UserError`.

- Arrays are uint8, or on demand uint16 for files with more than 8 bits per channel; black is 0 and
  white 255 or 65535.  Which samples of such a file become black and white: `images.ranges`.
- Grey becomes three equal channels; palettes and CMYK become RGB; colour profiles become sRGB.
- Transparent pixels are composited over black.
- The EXIF orientation is applied, so height and width are those that a viewer shows.
- Files with several frames or pages are refused.
- PNG, JPEG, WebP, TIFF, BMP and GIF are read by Pillow, other formats by those in
  `images.formats`, where others can be added.
"""

import contextlib
import io
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.formats import FORMATS, OpenedFile, find_format
from ditfuse_jax.images.formats.unsupported import HEAD, unsupported_kind
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
    "GIF": (".gif",),
}
# Files that are read as others are if Pillow has opened them already, some by `FORMATS`.
FILE_FORMATS = frozenset({*_FORMATS, "AVIF", "HEIF", "JXL"})
_PILLOW_SUFFIXES = frozenset(suffix for suffixes in _FORMATS.values() for suffix in suffixes)


class _Suffixes(Set[str]):
    """The suffixes of all formats; those of `FORMATS`, which may be added later, included."""

    def __contains__(self, suffix: object) -> bool:
        return suffix in _PILLOW_SUFFIXES or any(suffix in f.suffixes for f in FORMATS.values())

    def __iter__(self) -> Iterator[str]:
        own = (suffix for f in FORMATS.values() for suffix in f.suffixes)
        return iter(sorted({*_PILLOW_SUFFIXES, *own}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> frozenset[str]:  # of `&`, `|` and `-`
        return frozenset(it)

    def __repr__(self) -> str:
        return " ".join(self)


IMAGE_SUFFIXES: Set[str] = _Suffixes()

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
    return _decode(io.BytesIO(data), name, max_pixels)


def read_samples(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Samples:
    """Returns the samples of a file as they are stored.

    Raises:
      UserError: as `read_image`.
    """
    path = local_or_remote(path)
    with _open_file(path) as stream:
        return _decode(stream, str(path), max_pixels)


def to_rgb8(samples: Samples, name: str, value_range: str | Sequence[float] = "auto") -> np.ndarray:
    """Converts stored samples to `uint8 (H, W, 3)` RGB."""
    choice = parse_range(value_range)
    if samples.values.dtype == np.uint8:
        return samples.values
    chosen = choose_range([measure_samples(samples.values, samples.full_range)], choice, name)
    return as_rgb(apply_range(samples.values, chosen, linear=samples.linear))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns (height, width) as a viewer shows the image; reads only the file's header.

    Raises:
      UserError: as `read_image`, for errors that the header shows.
    """
    path = local_or_remote(path)
    with _open_file(path) as stream:
        opened = _open_format(stream, str(path), MAX_PIXELS)
    if opened:
        return opened.size
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

    Links to nothing and pipes that are named like images count, and are refused when they are read.

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
            and (is_remote(path) or not path.is_dir())
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
      UserError: as `read_image`, and for formats that Pillow does not read; also for exceptions of
        Pillow inside the `with` block.
    """
    path = local_or_remote(path)
    with _open_file(path) as stream, _opened(stream, str(path), max_pixels) as image:
        yield image


@contextlib.contextmanager
def open_bytes(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens an encoded byte string like `open_image`."""
    with _opened(io.BytesIO(data), name, max_pixels) as image:
        yield image


def _open_file(path: Path) -> IO[bytes]:
    try:
        if is_remote(path):  # everything in one request
            return io.BytesIO(path.read_bytes())
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening it might wait for ever
            raise UserError(f"{path}: is a pipe or a device: save the image as a file")
        return path.open("rb")
    except FileNotFoundError as error:
        linked = not is_remote(path) and path.is_symlink()
        what = "is a link to nothing" if linked else "no such file"
        raise UserError(f"{path}: {what}") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder, not an image file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be opened ({reason(error)})") from error


def _decode(stream: IO[bytes], name: str, max_pixels: int) -> Samples:
    opened = _open_format(stream, name, max_pixels)
    if opened:
        with _damage_named(name):
            samples = opened.decode()
    else:
        with _opened(stream, name, max_pixels) as image:
            samples = stored_samples(image, name)
    values = samples.values
    if values.dtype == np.float32:
        pixels = values if values.ndim == 2 else values.max(axis=2)
        if not np.isfinite(pixels).any():
            raise UserError(f"{name}: no pixel is a finite number")
    return samples


def _open_format(stream: IO[bytes], name: str, max_pixels: int) -> OpenedFile | None:
    """Opens a file whose format is one of `FORMATS`; returns None for others.

    Raises:
      UserError: see `read_image`.
    """
    with _damage_named(name):
        found = find_format(stream)
        if found is None:
            return None
        opened = found.open(stream.read(), name)
    _check_pixels(*opened.size, name, max_pixels)
    return opened


def _check_pixels(height: int, width: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UserError(
            f"{name}: {width}x{height} pixels exceed the limit of"
            f" {max_pixels / 1e6:g} megapixels: downscale it first"
        )


@contextlib.contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Turns what decoders raise for damaged files, which is of many types, into a UserError."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        if "MAX_TEXT_" in text:  # a limit of Pillow's
            raise UserError(
                f"{name}: holds more text beside its pixels than is read: save it without metadata"
            ) from error
        raise UserError(f"{name}: is damaged or truncated ({text})") from error


@contextlib.contextmanager
def _opened(stream: IO[bytes], name: str, max_pixels: int) -> Iterator[Image.Image]:
    with _damage_named(name):
        head = stream.read(HEAD)
        if not head:
            raise UserError(f"{name}: is empty (0 bytes)")
        stream.seek(0)
        try:
            image = _pillow_open(stream)
        except Image.UnidentifiedImageError as error:
            raise _not_an_image(head, name) from error
        with image:
            _check_pixels(image.height, image.width, name, max_pixels)
            yield image


def _not_an_image(head: bytes, name: str) -> UserError:
    kind = unsupported_kind(head)
    what = f": it is {kind[0]}: {kind[1]}" if kind else f" ({_known_suffixes()})"
    return UserError(f"{name}: is not an image of a supported format{what}")


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
