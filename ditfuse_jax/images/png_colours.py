"""What a PNG file says of its colours, beside a profile: chunks that Pillow does not apply.

Source: Portable Network Graphics (PNG) Specification, third edition, W3C 2025, sections 4.3 and
11.3.2; its order of precedence is cICP, iCCP, sRGB, gAMA.
"""

import struct
from collections.abc import Iterator
from typing import IO

from ditfuse_jax.images.colours import encoding_notes

_SIGNATURE = 8  # bytes
_WANTED = {b"cICP": 4, b"gAMA": 4, b"sRGB": 0, b"iCCP": 0}  # bytes that are read
_SRGB_GAMMA = 45455  # of 100,000: what encoders write beside images in sRGB
_SAME_GAMMA = 2500


def png_notes(stream: IO[bytes], name: str) -> tuple[str, ...]:
    """Returns what to say of a PNG file's colours; leaves the stream where it was.

    Raises:
      UserError: HDR.
    """
    place = stream.tell()
    try:
        found = dict(_chunks(stream))
    finally:
        stream.seek(place)
    code_points = found.get(b"cICP", b"")
    if len(code_points) == 4:
        return encoding_notes(code_points[0], code_points[1], has_icc=b"iCCP" in found, name=name)
    gamma = found.get(b"gAMA", b"")
    if len(gamma) == 4 and b"sRGB" not in found and b"iCCP" not in found:
        (value,) = struct.unpack(">I", gamma)
        if value and abs(value - _SRGB_GAMMA) > _SAME_GAMMA:
            return (f"its gamma, {1e5 / value:.3g} instead of 2.2, is not applied",)
    return ()


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yields names and first bytes of the chunks of interest before the pixels."""
    stream.seek(_SIGNATURE)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return
        content = stream.read(min(length, _WANTED.get(kind, 0)))
        if kind in _WANTED:
            yield kind, content
        stream.seek(length - len(content) + 4, 1)
