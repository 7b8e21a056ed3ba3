"""The pixels of decoded frames: bits, colours and rotation."""

import os
from typing import Any

import numpy as np

from ditfuse_jax.images.colours import encoding_notes
from ditfuse_jax.images.samples import TRANSPARENT, Samples
from ditfuse_jax.optional import import_optional

_UNSPECIFIED = 2  # colour space of a frame whose file names none
_INTERLACED = "its frames are interlaced, so that what moves is combed: deinterlace it"
_HD_LINES = 720  # such frames with as many lines are taken as BT.709, smaller ones as BT.601


def pyav() -> Any:
    """Returns the module `av`.

    Raises:
      UserError: it is not installed.
    """
    return import_optional("av", "video")


def open_for_reading(path: str | os.PathLike[str]) -> Any:
    """Opens a video file; metadata that are not UTF-8 are no error.

    Raises:
      UserError: PyAV is not installed.
      av.FFmpegError: the file cannot be opened.
    """
    av = pyav()
    # PyAV 19 dropped the option.
    older = int(av.__version__.partition(".")[0]) < 19
    return av.open(os.fspath(path), **({"metadata_errors": "replace"} if older else {}))


def accurate() -> int:
    """FFmpeg's flags of a conversion that rounds: its fastest one darkens by more than a value."""
    kinds = pyav().video.reformatter.Interpolation
    return kinds.BICUBIC | kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP


def is_grey(frame: Any) -> bool:
    """Whether a frame has no colours."""
    return frame.format.name.startswith("gray")


def is_deep(frame: Any) -> bool:
    """Whether a frame has more than 8 bits per channel."""
    return max(component.bits for component in frame.format.components) > 8


def quarter_turns(frame: Any) -> int:
    """Returns the counterclockwise quarter turns that bring a frame upright."""
    return round(frame.rotation / 90) % 4


def colour_notes(frame: Any, name: str) -> tuple[str, ...]:
    """Returns what to say of a frame's colours.

    Raises:
      UserError: HDR.
    """
    if is_grey(frame):
        return ()
    # 0 is reserved, and means the same as "unspecified" where it is found.
    primaries = int(frame.color_primaries or _UNSPECIFIED)
    return encoding_notes(primaries, int(frame.color_trc), has_icc=False, name=name)


def _over_black(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Puts RGBA (H, W, 4), uint8 or uint16, over black, and says so if anything is transparent."""
    colours, alpha = values[..., :3], values[..., 3:]
    white = np.iinfo(values.dtype).max
    if alpha.min() == white:
        return colours, ()
    scaled = np.rint(colours * (alpha / np.float32(white)))
    return scaled.astype(values.dtype), (TRANSPARENT,)


def frame_samples(frame: Any, name: str) -> Samples:
    """Returns the samples of a frame, upright; grey counts as they are, colour as RGB.

    Raises:
      UserError: HDR.
    """
    notes = colour_notes(frame, name)
    deep, format_name = is_deep(frame), frame.format.name
    if deep and is_grey(frame):
        dtype = np.dtype(np.float32 if "f32" in format_name else np.uint16)
        plane = frame.planes[0]
        rows = np.frombuffer(plane, dtype.newbyteorder(">" if format_name.endswith("be") else "<"))
        rows = rows.reshape(-1, plane.line_size // dtype.itemsize)
        values = rows[: frame.height, : frame.width].astype(dtype)
    else:
        source = None
        if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
            spaces = pyav().video.reformatter.Colorspace
            source = spaces.ITU709 if frame.height >= _HD_LINES else spaces.ITU601
        clear = any(component.is_alpha for component in frame.format.components)
        target = ("rgba64le" if deep else "rgba") if clear else ("rgb48le" if deep else "rgb24")
        values = frame.reformat(
            format=target, src_colorspace=source, interpolation=accurate()
        ).to_ndarray()
        if clear:
            values, told = _over_black(values)
            notes += told
    if frame.interlaced_frame:
        notes += (_INTERLACED,)
    values = np.ascontiguousarray(np.rot90(values, quarter_turns(frame)))
    # Colour is scaled to the whole range; counts of grey video are left as they are.
    return Samples(values, full_range=deep and not is_grey(frame), notes=notes)
