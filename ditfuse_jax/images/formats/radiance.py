"""Radiance files (.hdr): scene-linear colour, three 8-bit mantissas with a common exponent."""

import re

import cv2
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.formats.image_format import ImageFormat, OpenedFile, begins_with
from ditfuse_jax.images.samples import Samples

_HEAD = 65536  # bytes in which the header ends
_RESOLUTION = re.compile(rb"\n\n([-+][XY]) (\d+) ([-+][XY]) (\d+)\n")


def open_radiance(data: bytes, name: str) -> OpenedFile:
    """Reads the header of a Radiance file; see `ImageFormat`."""
    head = data[:_HEAD]
    found = _RESOLUTION.search(head)
    if not found:
        raise UserError(f"{name}: is damaged or truncated (no size in its header)")
    if b"32-bit_rle_xyze" in head[: found.start()]:
        raise UserError(f"{name}: holds XYZ colours: save it as RGBE")
    first, height, second, width = found.groups()
    if (first, second) != (b"-Y", b"+X"):
        raise UserError(f"{name}: its rows are mirrored or turned: save it upright")
    size = int(height), int(width)

    def decode() -> Samples:
        _check_complete(data[found.end() :], *size)
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None or values.shape != (*size, 3):
            raise ValueError("OpenCV cannot decode it")
        return Samples(np.ascontiguousarray(values[..., ::-1]), linear=True)

    return OpenedFile(size, decode)


def _check_complete(pixels: bytes, height: int, width: int) -> None:
    """Raises ValueError unless the data hold all rows; OpenCV fills what a file lacks.

    Rows are run-length encoded, channel by channel, behind four bytes with their width; or plain.
    """
    at, missing = 0, ValueError("its pixels end early")
    if not (8 <= width < 1 << 15) or pixels[:2] != b"\2\2":
        if len(pixels) < 4 * width * height:
            raise missing
        return
    for _ in range(height):
        if pixels[at : at + 2] != b"\2\2":
            raise missing
        at += 4
        for _ in range(4):
            done = 0
            while done < width:
                if at >= len(pixels):
                    raise missing
                run = pixels[at]
                at += 2 if run > 128 else run + 1
                done += run - 128 if run > 128 else run
                if not run:
                    raise ValueError("a run of no pixels")
    if at > len(pixels):
        raise missing


RADIANCE = ImageFormat((".hdr",), begins_with(b"#?RADIANCE", b"#?RGBE"), open_radiance)
