"""Writes images atomically, with metadata on how they were made."""

import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_bytes
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
_EXIF_IMAGE_DESCRIPTION = 0x010E


def write_image(
    path: str | os.PathLike[str],
    image: np.ndarray,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes `uint8 (H, W, 3)` RGB in the format of the path's suffix.

    JPEG has quality 95 without chroma subsampling; the other formats are lossless.  Metadata are
    stored in text chunks of a PNG and, as JSON, in the EXIF image description of JPEG, WebP and
    TIFF; BMP cannot hold them and drops them.

    Raises:
      UserError: unknown suffix, missing or read-only folder, full disk, or an image or metadata
        that the format cannot hold.  An older file of that name is then unchanged.
    """
    path = as_path(path)
    check_rgb(image, str(path))
    encoder = _ENCODERS.get(path.suffix.lower())
    if encoder is None:
        known = " ".join(_ENCODERS)
        raise UserError(f"{path}: no image format has the suffix {path.suffix!r} (known: {known})")
    encoded = io.BytesIO()
    try:
        options = encoder | _metadata_options(encoder["format"], dict(metadata or {}))
        Image.fromarray(image).save(encoded, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be encoded ({error})") from error
    write_bytes(path, encoded.getbuffer())


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
    if image_format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            chunks.add_text(key, value)  # tEXt, or iTXt for text beyond Latin-1
        return {"pnginfo": chunks}
    exif = Image.Exif()
    exif[_EXIF_IMAGE_DESCRIPTION] = json.dumps(metadata)  # EXIF requires ASCII
    return {"exif": exif}
