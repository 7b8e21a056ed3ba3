"""OpenEXR files: scene-linear colour in floats, or one channel of measurements."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.formats.image_format import (
    ImageFormat,
    OpenedFile,
    begins_with,
    import_library,
)
from ditfuse_jax.images.samples import Samples

T = TypeVar("T")

_COLOUR = {"R", "G", "B"}
# Rec. ITU-R BT.709, which a file without the attribute has: red, green, blue, white.
_REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


def open_openexr(data: bytes, name: str) -> OpenedFile:
    """Reads the header of an OpenEXR file; see `ImageFormat`."""
    headers = _read(data, name, lambda file: [dict(part.header) for part in file.parts])
    if len(headers) != 1:
        raise UserError(f"{name}: holds {len(headers)} parts: save the one to fuse alone")
    (header,) = headers
    if "deep" in str(header.get("type", "")).lower():
        raise UserError(f"{name}: has deep samples: flatten it")
    window, display = header["dataWindow"], header["displayWindow"]
    if not np.array_equal(window, display):
        raise UserError(
            f"{name}: its data window is not its display window: save the whole image, or crop it"
        )
    (left, top), (right, bottom) = np.asarray(window, int)
    listed = sorted(channel.name for channel in header["channels"])
    grey = [c for c in listed if c != "A"]
    if not set(listed) >= _COLOUR and len(grey) != 1:
        raise UserError(f"{name}: has the channels {', '.join(listed)}: save R, G and B, or one")
    if len(grey) > 1 and set(grey) != _COLOUR:
        raise UserError(f"{name}: has the channels {', '.join(listed)}: save R, G and B alone")
    if any((c.xSampling, c.ySampling) != (1, 1) for c in header["channels"]):
        raise UserError(f"{name}: has channels of lower resolution: save R, G and B in full")
    notes = []
    primaries = header.get("chromaticities")
    if primaries is not None and not np.allclose(np.ravel(primaries), _REC709, atol=0.002):
        notes.append("its primaries are not those of Rec. 709, and its colours are not converted")

    def decode() -> Samples:
        names = grey if len(grey) == 1 else ["R", "G", "B"]
        planes = _read(
            data,
            name,
            lambda file: [np.array(file.parts[0].channels[c].pixels) for c in names],
            pixels=True,
        )
        if any(plane.dtype.kind != "f" for plane in planes):
            raise UserError(f"{name}: has whole numbers as samples: save it with floats")
        values = np.stack(planes, axis=-1).astype(np.float32)
        # Alpha is multiplied into the colours already, so they stand over black as they are.
        more = ("its transparent parts are put over black",) if "A" in listed else ()
        grey_samples = values.shape[2] == 1
        return Samples(
            values[..., 0] if grey_samples else values,
            linear=not grey_samples,
            notes=(*notes, *more),
        )

    return OpenedFile((int(bottom - top) + 1, int(right - left) + 1), decode)


def _read(data: bytes, name: str, take: Callable[[Any], T], *, pixels: bool = False) -> T:
    """Returns what `take` returns of the opened file, which the library empties at its end."""
    library = import_library("OpenEXR", name)
    # The library reads files only.
    with tempfile.TemporaryDirectory(prefix="ditfuse-") as folder:
        path = Path(folder, "image.exr")
        path.write_bytes(data)
        with library.File(str(path), separate_channels=True, header_only=not pixels) as file:
            return take(file)


OPENEXR = ImageFormat((".exr",), begins_with(b"\x76\x2f\x31\x01"), open_openexr)
