"""The pictures of a report: embedded in sizes that keep the page small, at full size beside it."""

import base64
import contextlib
import dataclasses
import io
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ditfuse_jax.files import list_folder, make_folder, write_bytes
from ditfuse_jax.images import check_rgb

# Beside the page, for pictures at full size.
FOLDER = "report_pictures"

MOST_BYTES = 7_000_000  # of all embedded pictures; a third more as text
# Longest side in pixels and JPEG quality, tried in turn until the pictures of a page are small.
_LEVELS = (
    *((1024, 90), (640, 85), (480, 85), (400, 80), (320, 80)),
    *((280, 75), (240, 75), (200, 75), (160, 70)),
)
_LOSSLESS_BELOW = 160 * 160  # pixels: small pictures are enlarged, which would show JPEG blocks
_SAMPLED = 16  # pictures by which the sizes of all are estimated
_OURS = re.compile(r"\d{3}-\d{2}-[A-Za-z0-9-]*\.png")  # names in the folder


@dataclasses.dataclass(frozen=True)
class PagePicture:
    """A picture on the page.

    Attributes:
      title: below it.
      size: (width, height) of the original.
      uri: the embedded picture.
      link: to the file at full size, relative to the page; empty if there is none.
    """

    title: str
    size: tuple[int, int]
    uri: str
    link: str = ""


@dataclasses.dataclass(frozen=True)
class PagePictures:
    """All pictures of a page.

    Attributes:
      rows: stem and pictures.
      longest_side: of the embedded pictures that were reduced, pixels; 0 if none was.
    """

    rows: list[tuple[str, list[PagePicture]]]
    longest_side: int


def embed_pictures(
    rows: Iterable[tuple[str, Mapping[str, np.ndarray]]], folder: Path | None = None
) -> PagePictures:
    """Encodes pictures for a page, together at most `MOST_BYTES`.

    Few pictures are embedded with up to 1024 pixels on their longest side, many with less, down to
    160 pixels: then the pictures of a page with very many may be more than `MOST_BYTES`.

    Args:
      rows: stems with title -> uint8 RGB `(H, W, 3)`.
      folder: of the page, if the pictures are also to be written to `report_pictures` in it, at
        full size and without loss.  Others of an earlier page are removed there.

    Raises:
      UserError: a picture is not uint8 RGB, or a file cannot be written.
    """
    places: list[tuple[str, list[tuple[str, tuple[int, int], str]]]] = []
    encoded: list[bytes] = []
    files: set[str] = set()
    if folder:
        make_folder(folder / FOLDER)
    for row, (stem, pictures) in enumerate(rows):
        places.append((stem, []))
        for column, (title, image) in enumerate(pictures.items()):
            check_rgb(image, f"{stem}, {title}")
            link = ""
            if folder:
                name = _file_name(row, column, f"{stem}-{title}")
                write_bytes(folder / FOLDER / name, _png(Image.fromarray(image)))
                files.add(name)
                link = urllib.parse.quote(f"{FOLDER}/{name}")
            places[-1][1].append((title, (image.shape[1], image.shape[0]), link))
            encoded.append(_encode(Image.fromarray(image), *_LEVELS[0]))
    if folder:
        _remove_others(folder / FOLDER, files)
    side, shown = _fit(encoded)
    uris = iter([_data_uri(data) for data in shown])
    made = [
        (stem, [PagePicture(title, size, next(uris), link) for title, size, link in row])
        for stem, row in places
    ]
    largest = max((max(size) for _, row in places for _, size, _ in row), default=0)
    return PagePictures(made, side if largest > side else 0)


def _fit(encoded: Sequence[bytes]) -> tuple[int, Sequence[bytes]]:
    """Returns the longest side and pictures that are small enough together."""
    shown = encoded
    sample = encoded[:: max(len(encoded) // _SAMPLED, 1)]
    for side, quality in _LEVELS:
        if (side, quality) != _LEVELS[0]:
            last = (side, quality) == _LEVELS[-1]
            few = [_reduce(data, side, quality, all_jpeg=last) for data in sample]
            estimate = sum(map(len, few)) / len(few) * len(encoded)
            if estimate > MOST_BYTES and not last:
                continue
            shown = [_reduce(data, side, quality, all_jpeg=last) for data in encoded]
        if sum(map(len, shown)) <= MOST_BYTES:
            return side, shown
    return _LEVELS[-1][0], shown


def _reduce(data: bytes, side: int, quality: int, *, all_jpeg: bool) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        if max(picture.size) <= side and not all_jpeg:
            return data
        return _encode(picture.convert("RGB"), side, quality, lossless_below=0)


def _encode(
    picture: Image.Image, side: int, quality: int, lossless_below: int = _LOSSLESS_BELOW
) -> bytes:
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    if picture.width * picture.height < lossless_below:
        return _png(picture)
    encoded = io.BytesIO()
    # Not `optimize`: noise does not fit into Pillow's buffer for it.
    subsampling = "4:4:4" if quality >= 90 else "4:2:0"
    picture.save(encoded, "JPEG", quality=quality, subsampling=subsampling)
    return encoded.getvalue()


def _png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=4)
    return encoded.getvalue()


def _data_uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _file_name(row: int, column: int, name: str) -> str:
    """Returns a name that is different for each picture and valid everywhere."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
    return f"{row:03d}-{column:02d}-{readable}.png"


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Removes the pictures of an earlier page."""
    for path in list_folder(folder):
        if path.name not in kept and _OURS.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
