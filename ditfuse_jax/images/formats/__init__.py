"""Formats that are read by their own functions, beside those that Pillow reads (`decode`).

A new format is one file here and one line below.  Another module adds its own with
`FORMATS.register("mine", ImageFormat(...))`.
"""

from typing import IO

from ditfuse_jax.images.formats.avif import AVIF
from ditfuse_jax.images.formats.camera_raw import CAMERA_RAW
from ditfuse_jax.images.formats.dicom import DICOM
from ditfuse_jax.images.formats.flir import FLIR
from ditfuse_jax.images.formats.heif import HEIF
from ditfuse_jax.images.formats.image_format import (
    ImageFormat,
    OpenedFile,
    begins_with,
    has_brand,
)
from ditfuse_jax.images.formats.jpeg_xl import JPEG_XL
from ditfuse_jax.images.formats.openexr import OPENEXR
from ditfuse_jax.images.formats.radiance import RADIANCE
from ditfuse_jax.images.formats.tiff import TIFF
from ditfuse_jax.registry import Registry

# The first one that recognises a file reads it.
FORMATS: Registry[ImageFormat] = Registry(
    "image format",
    {
        "flir": FLIR,
        "openexr": OPENEXR,
        "radiance": RADIANCE,
        "dicom": DICOM,
        "avif": AVIF,
        "heif": HEIF,
        "jpeg-xl": JPEG_XL,
        "camera-raw": CAMERA_RAW,
        "tiff": TIFF,
    },
)


def find_format(stream: IO[bytes]) -> ImageFormat | None:
    """Returns the format of a file, a stream that is then at its beginning again, or None."""
    for image_format in FORMATS.values():
        found = image_format.recognises(stream)
        stream.seek(0)
        if found:
            return image_format
    return None


__all__ = ["FORMATS", "ImageFormat", "OpenedFile", "begins_with", "find_format", "has_brand"]
