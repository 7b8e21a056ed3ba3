"""Writes images atomically, with metadata on how they were made."""

import io
import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_bytes
from ditfuse_jax.images.chroma import is_grey
from ditfuse_jax.images.decode import open_image
from ditfuse_jax.images.values import check_rgb
from ditfuse_jax.paths import as_path

_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"}
_ENCODERS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": {"format": "WEBP", "lossless": True},
    ".tif": {"format": "TIFF", "compression": "tiff_lzw"},
    ".tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    ".bmp": {"format": "BMP"},
}
WRITTEN_SUFFIXES = tuple(_ENCODERS)
_EXIF_IMAGE_DESCRIPTION = 0x010E
_TIFF_MAX_SAMPLE_VALUE = 281
_PNG_HEADER = 33  # bytes: signature and IHDR chunk
_FASTEST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
# For colour photographs, whose noise holds nothing to refer to: as small as zlib's default.
_RUN_LENGTHS = [*_FASTEST, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


def write_image(
    path: str | os.PathLike[str],
    image: np.ndarray,
    metadata: Mapping[str, str] | None = None,
    *,
    quick: bool = False,
) -> None:
    """Writes RGB (H, W, 3), uint8 or uint16, in the format of the path's suffix.

    PNG and TIFF hold 16 bits, and say that 65535 is white.  JPEG has quality 95 without chroma
    subsampling; the other formats are lossless.  Metadata are stored in text chunks of a PNG and,
    as JSON, in the EXIF image description of JPEG, WebP and TIFF; BMP cannot hold them and drops
    them.

    Raises:
      UserError: unknown suffix, 16 bits in a format of 8, missing or read-only folder, full disk,
        or an image or metadata that the format cannot hold.  An older file of that name is then
        unchanged.
    """
    path = as_path(path)
    write_bytes(path, encode_image(image, path, metadata, quick=quick))


def encode_image(
    image: np.ndarray,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    quick: bool = False,
) -> bytes:
    """Returns the bytes that `write_image` writes to such a path; writes nothing.

    Raises:
      UserError: unknown suffix, or an image or metadata that the format cannot hold.
    """
    path = as_path(path)
    check_rgb(image, str(path), deep=True)
    encoder = _ENCODERS.get(path.suffix.lower())
    if encoder is None:
        known = " ".join(_ENCODERS)
        raise UserError(f"{path}: no image format has the suffix {path.suffix!r} (known: {known})")
    if image.dtype == np.uint16:
        return _encode_deep(path, image, encoder["format"], dict(metadata or {}))
    if quick and encoder["format"] == "PNG":
        options = _FASTEST if is_grey(image) else _RUN_LENGTHS
        return _encode_png(path, image, dict(metadata or {}), [], options)
    encoded = io.BytesIO()
    try:
        options = encoder | _metadata_options(encoder["format"], dict(metadata or {}))
        Image.fromarray(image).save(encoded, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be encoded ({error})") from error
    return encoded.getvalue()


def is_deep_format(path: Path) -> bool:
    """Whether the format of the path's suffix holds 16 bits per channel."""
    return _ENCODERS.get(path.suffix.lower(), {}).get("format") in ("PNG", "TIFF")


def _encode_deep(
    path: Path, image: np.ndarray, image_format: str, metadata: dict[str, str]
) -> bytes:
    """Encodes uint16 (H, W, 3); Pillow cannot."""
    if image_format == "TIFF":
        stream = io.BytesIO()
        tifffile.imwrite(
            stream,
            image,
            photometric="rgb",
            compression="zlib",
            predictor=True,
            description=json.dumps(metadata) if metadata else None,
            metadata=None,
            extratags=[(_TIFF_MAX_SAMPLE_VALUE, "H", 3, (65535,) * 3, True)],
        )
        return stream.getvalue()
    if image_format != "PNG":
        raise UserError(f"{path}: this format has 8 bits per channel: use .png or .tif, or depth 8")
    return _encode_png(path, image, metadata, [(b"sBIT", bytes([16, 16, 16]))], [])


def _encode_png(
    path: Path,
    image: np.ndarray,
    metadata: dict[str, str],
    chunks: list[tuple[bytes, bytes]],
    options: list[int],
) -> bytes:
    """Encodes by OpenCV, whose `options` these are, with further chunks and the metadata."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]), options)
    if not done:
        raise UserError(f"{path}: cannot be encoded")
    encoded = data.tobytes()
    texts = _metadata_options("PNG", metadata).get("pnginfo")
    added = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in [*chunks, *([chunk[:2] for chunk in texts.chunks] if texts else [])]
    )
    return encoded[:_PNG_HEADER] + added + encoded[_PNG_HEADER:]


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the metadata that `write_image` stored; for any PNG, all its text chunks.

    Raises:
      UserError: the file cannot be read as an image.
    """
    with open_image(path) as image:
        if isinstance(image, PngImagePlugin.PngImageFile):
            return {str(key): str(value) for key, value in image.text.items()}
        description = image.getexif().get(_EXIF_IMAGE_DESCRIPTION, "")
    try:
        stored = json.loads(description)
    except ValueError:  # another program wrote the description
        return {}
    return stored if isinstance(stored, dict) else {}


def _metadata_options(image_format: str, metadata: dict[str, str]) -> dict[str, Any]:
    if not metadata or image_format == "BMP":
        return {}
    # Names of files may hold bytes that are not UTF-8; they are stored escaped.
    metadata = {k: v.encode("utf-8", "backslashreplace").decode() for k, v in metadata.items()}
    if image_format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            chunks.add_text(key, value)  # tEXt, or iTXt for text beyond Latin-1
        return {"pnginfo": chunks}
    exif = Image.Exif()
    exif[_EXIF_IMAGE_DESCRIPTION] = json.dumps(metadata)  # EXIF requires ASCII
    return {"exif": exif}
