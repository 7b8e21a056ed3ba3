"""Video files: what one holds, its frames one by one, and writing one.

Read with all of their bits: grey video with more than 8 bits (gray10le ... gray16le, grayf32le, as
thermal cameras record it) keeps its counts, whose range is chosen as that of images is; colour with
more than 8 bits becomes 16 bits.  The rotation that a phone records is applied.

FFmpeg's libraries do the work, through PyAV (the extra `video`).
"""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.in_memory import LoadedImage
from ditfuse_jax.images.samples import Samples
from ditfuse_jax.optional import import_optional
from ditfuse_jax.paths import as_path, is_remote

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
)

_UNSPECIFIED = 2  # colour space of a frame whose file names none
_HD_LINES = 720  # such frames with as many lines are taken as BT.709, smaller ones as BT.601
_DEFAULT_RATE = Fraction(25)  # of a video with a single frame and no rate
_CUT_OFF = 0.95  # of the length that the header names; a video that ends before is cut off


@dataclasses.dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file holds.

    Attributes:
      path: the file.
      size: (height, width) of a frame as it is shown.
      rate: frames per second, on average.
      times: (N,) int64, when each frame is shown, ascending, in units of `time_base`.
      keys: those of `times` at which decoding can begin.
      time_base: seconds.
      variable: whether frames do not follow each other at a steady rate.
      deep: whether frames have more than 8 bits per channel.
      audio: number of audio tracks.
      pixel_aspect: width of a pixel divided by its height.
      cut_off: seconds that the header names, if the frames end much earlier; else None.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    times: np.ndarray
    keys: np.ndarray
    time_base: Fraction
    variable: bool
    deep: bool
    audio: int
    pixel_aspect: Fraction
    cut_off: float | None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray:
        """(N,) when each frame is shown, the first at 0."""
        return (self.times - self.times[0]) * float(self.time_base)


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path ends like a video file."""
    return Path(str(path)).suffix.lower() in VIDEO_SUFFIXES


def pyav() -> Any:
    """Returns the module `av`.

    Raises:
      UserError: it is not installed.
    """
    return import_optional("av", "video")


@functools.lru_cache(maxsize=16)
def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Reads the packets of a video without decoding them, all but the first frame.

    Raises:
      UserError: no such file, or it is no video, is damaged, or holds no frame.
    """
    path = as_path(path)
    with _opened(path) as container:
        stream = container.streams.video[0]
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise UserError(f"{path}: holds no frame that can be decoded")
        height, width = first.height, first.width
        if _quarter_turns(first) % 2:
            height, width = width, height
        container.seek(0)
    with _opened(path) as container:  # `seek` is not exact in every container
        stream = container.streams.video[0]
        packets = [
            (packet.pts if packet.pts is not None else packet.dts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        ]
        stamps, starts = map(list, zip(*packets, strict=True)) if packets else ([], [])
        nominal = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        base = Fraction(stream.time_base)
        if any(stamp is None for stamp in stamps):  # raw streams carry no times
            base = 1 / Fraction(nominal)
            stamps = list(range(len(stamps)))
        if not stamps:
            raise UserError(f"{path}: holds no frame that can be decoded")
        times = np.sort(np.array(stamps, np.int64))
        rate, variable = _steady_rate(times, base, Fraction(nominal))
        named = _named_seconds(stream)
        end = float((times[-1] - times[0]) * base + 1 / rate)
        return VideoInfo(
            path,
            (height, width),
            rate,
            times,
            np.sort(np.array(stamps, np.int64)[np.array(starts, bool)]),
            base,
            variable,
            _is_deep(first),
            len(container.streams.audio),
            Fraction(stream.sample_aspect_ratio or 1) or Fraction(1),
            named if named and end < _CUT_OFF * named - float(1 / rate) else None,
        )


def read_frames(path: str | os.PathLike[str], start: int = 0) -> Iterator[LoadedImage]:
    """Yields the frames of a video in order, one at a time.

    Frames are `LoadedImage`, which `Fuser.stream` takes; `frame.samples.values` is the array: uint8
    (H, W, 3) RGB, or with more bits uint16 (or float32) (H, W) grey or (H, W, 3) RGB.

    Args:
      path: the file.
      start: frames before this one are decoded and passed over.

    Raises:
      UserError: the file cannot be read, or a frame is damaged; the message has its number.
    """
    path = as_path(path)
    number = start
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = iter(container.decode(stream))
        size = None
        for number in itertools.count():
            try:
                frame = next(frames, None)
            except pyav().FFmpegError as error:
                raise UserError(
                    f"{path}: frame {number} cannot be decoded ({reason(error)}): the file is "
                    "damaged"
                ) from error
            if frame is None:
                return
            if frame.is_corrupt:
                raise UserError(f"{path}: frame {number} is damaged")
            size = size or (frame.height, frame.width)
            if (frame.height, frame.width) != size:
                raise UserError(
                    f"{path}: frame {number} is {frame.width}x{frame.height}, those before "
                    f"{size[1]}x{size[0]}: a video with frames of one size is needed"
                )
            if number >= start:
                yield LoadedImage(_samples(frame), f"{path} frame {number}")


def sample_frames(path: str | os.PathLike[str], count: int) -> Iterator[LoadedImage]:
    """Yields up to `count` frames, spread evenly over a video, without decoding all of it.

    Raises:
      UserError: see `read_frames`; frames that cannot be decoded are passed over.
    """
    info = probe_video(path)
    places = np.linspace(0, info.frames - 1, min(count, info.frames)).round().astype(int)
    with _opened(info.path) as container:
        stream = container.streams.video[0]
        reached = np.int64(-1)
        for place in np.unique(places).tolist():
            wanted = info.times[place]
            before = info.keys[info.keys <= wanted]
            try:
                if len(before) and before[-1] > reached:  # else it is nearer to go on
                    container.seek(int(before[-1]), stream=stream)
                for frame in container.decode(stream):
                    reached = frame.pts if frame.pts is not None else reached + 1
                    if reached >= wanted:
                        if not frame.is_corrupt:
                            yield LoadedImage(_samples(frame), f"{info.path} frame {place}")
                        break
            except pyav().FFmpegError:
                continue


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a video; errors of FFmpeg in the `with` block become a `UserError`."""
    av = pyav()
    if is_remote(path):
        raise UserError(f"{path}: videos are read from local disks: copy it here first")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a video file")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise UserError(f"{path}: holds no video track")
            yield container
    except av.FFmpegError as error:
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{path}: no such file") from error
        raise UserError(
            f"{path}: cannot be read as a video ({reason(error)}): it is damaged, cut off or of "
            "another kind"
        ) from error


def accurate() -> int:
    """FFmpeg's flags of a conversion that rounds: its fastest one darkens by more than a value."""
    kinds = pyav().video.reformatter.Interpolation
    return kinds.BICUBIC | kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP


def _steady_rate(times: np.ndarray, base: Fraction, nominal: Fraction) -> tuple[Fraction, bool]:
    """Returns the rate of frames and whether they leave it by more than half a frame."""
    if len(times) < 2 or times[-1] == times[0]:
        return nominal, False
    step = (times[-1] - times[0]) / (len(times) - 1)
    places = (times - times[0]) / step
    variable = bool(np.abs(places - np.arange(len(times))).max() > 0.5)
    measured = Fraction(1 / (step * float(base))).limit_denominator(1001)
    # Times are rounded to units of the container; the rate that it names is exact.
    slack = 2 * float(base) * float(nominal) / (len(times) - 1) + 1e-3
    agrees = abs(float(measured / nominal) - 1) <= slack
    return (nominal if agrees else measured), variable


def _named_seconds(stream: Any) -> float | None:
    """Length of a video track as the file's header or tags name it."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tags = {name.upper(): value for name, value in stream.metadata.items()}
    try:
        hours, minutes, seconds = tags.get("DURATION", "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None


def _is_grey(frame: Any) -> bool:
    return frame.format.name.startswith("gray")


def _is_deep(frame: Any) -> bool:
    return max(component.bits for component in frame.format.components) > 8


def _quarter_turns(frame: Any) -> int:
    """Counterclockwise quarter turns that bring a frame upright."""
    return round(frame.rotation / 90) % 4


def _samples(frame: Any) -> Samples:
    deep, name = _is_deep(frame), frame.format.name
    if deep and _is_grey(frame):
        dtype = np.dtype(np.float32 if "f32" in name else np.uint16)
        plane = frame.planes[0]
        rows = np.frombuffer(plane, dtype.newbyteorder(">" if name.endswith("be") else "<"))
        rows = rows.reshape(-1, plane.line_size // dtype.itemsize)
        values = rows[: frame.height, : frame.width].astype(dtype)
    else:
        source = None
        if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
            spaces = pyav().video.reformatter.Colorspace
            source = spaces.ITU709 if frame.height >= _HD_LINES else spaces.ITU601
        target = "rgb48le" if deep else "rgb24"
        values = frame.reformat(
            format=target, src_colorspace=source, interpolation=accurate()
        ).to_ndarray()
    values = np.ascontiguousarray(np.rot90(values, _quarter_turns(frame)))
    # Colour is scaled to the whole range; counts of grey video are left as they are.
    return Samples(values, full_range=deep and not _is_grey(frame))
