"""HEIC and HEIF files, as phones write them, by pillow-heif."""

import io

import numpy as np
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.colours import encoding_notes
from ditfuse_jax.images.formats.image_format import (
    ImageFormat,
    OpenedFile,
    has_brand,
    import_library,
)
from ditfuse_jax.images.samples import Samples, deep_colour, eight_bit_rgb

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"hevc", b"hevx")
_GAIN_MAP = "gainmap"


def open_heif(data: bytes, name: str) -> OpenedFile:
    """Reads the header of a HEIF file; see `ImageFormat`.

    The primary image counts: depth maps, thumbnails and a gain map belong to it.
    """
    pillow_heif = import_library("pillow_heif", name)
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    if len(file) > 1:
        raise UserError(f"{name}: holds {len(file)} images: save the one to fuse as its own file")
    width, height = file.size
    bits = int(file.info.get("bit_depth", 8))
    nclx = file.info.get("nclx_profile") or {}
    icc = file.info.get("icc_profile")
    notes = encoding_notes(
        nclx.get("color_primaries", 2), nclx.get("transfer_characteristics", 2), bool(icc), name
    )
    if any(_GAIN_MAP in str(kind).lower() for kind in file.info.get("aux", {})):
        notes += ("the picture for normal screens is read, without its gain map",)

    def decode() -> Samples:
        # Mirroring and rotation are applied by the library.
        values = np.asarray(file)
        if values.dtype == np.uint16:
            largest = (2**bits - 1) << (16 - bits)  # the library shifts the samples to 16 bits
            return deep_colour(values, largest, icc, notes, name)
        image = Image.fromarray(values)
        if icc:
            image.info["icc_profile"] = icc
        return eight_bit_rgb(image, notes)

    return OpenedFile((height, width), decode)


HEIF = ImageFormat((".heic", ".heif", ".hif"), has_brand(*_BRANDS), open_heif)
