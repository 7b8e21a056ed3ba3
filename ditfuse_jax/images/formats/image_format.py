"""What a reader of an image format provides."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.samples import Samples
from ditfuse_jax.optional import import_optional


@dataclass(frozen=True)
class OpenedFile:
    """A file whose header is read and whose pixels are not decoded yet.

    Attributes:
      size: (height, width) as a viewer shows the image.
      decode: returns the samples; what it raises is reported as a damaged file.
    """

    size: tuple[int, int]
    decode: Callable[[], Samples]


@dataclass(frozen=True)
class ImageFormat:
    """A format that is read by its own function.

    Attributes:
      suffixes: of its files, in lower case; they decide what a folder lists, not what is decoded.
      recognises: whether a file's content, a stream at its beginning, is of this format.
      open: reads the header.  It gets the file's bytes and its name, for messages, and raises
        `UserError` for a kind that it cannot read correctly.
    """

    suffixes: tuple[str, ...]
    recognises: Callable[[IO[bytes]], bool]
    open: Callable[[bytes, str], OpenedFile]


def begins_with(*magic: bytes, at: int = 0) -> Callable[[IO[bytes]], bool]:
    """Returns a function that tells whether a stream holds one of some byte strings at `at`."""
    length = at + max(map(len, magic))

    def recognises(stream: IO[bytes]) -> bool:
        return stream.read(length)[at:].startswith(magic)

    return recognises


def has_brand(*brands: bytes) -> Callable[[IO[bytes]], bool]:
    """Returns a function that tells whether a stream is an ISO media file (HEIF, AVIF) of a brand.

    The major and the compatible brands count (ISO 14496-12, `ftyp`).
    """

    def recognises(stream: IO[bytes]) -> bool:
        head = stream.read(256)
        length = min(int.from_bytes(head[:4], "big"), len(head))
        found = {head[at : at + 4] for at in (8, *range(16, length - 3, 4))}
        return head[4:8] == b"ftyp" and not found.isdisjoint(brands)

    return recognises


def import_library(module: str, name: str) -> Any:
    """Imports a module of the extra `formats`; `name` is the file that needs it.

    Raises:
      UserError: it is not installed.
    """
    try:
        return import_optional(module, "formats")
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def as_stream(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)
