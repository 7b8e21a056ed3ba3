"""Video files: what one holds, and its frames one by one.

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
from collections.abc import Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.in_memory import LoadedImage
from ditfuse_jax.images.video_pixels import (
    colour_notes,
    frame_samples,
    is_deep,
    open_for_reading,
    pyav,
    quarter_turns,
)
from ditfuse_jax.paths import as_path, is_remote

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
      other_tracks: kind of track -> how many the file holds besides the first video track.
      pixel_aspect: width of a pixel divided by its height.
      cut_off: seconds that the header names, if the frames end much earlier; else None.
      undecodable: frames before the first that can be decoded, which are not counted: what they
        refer to was cut off.
      stamped: whether the file says when each frame is shown; else `times` are in order only.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    times: np.ndarray
    keys: np.ndarray
    time_base: Fraction
    variable: bool
    deep: bool
    other_tracks: dict[str, int]
    pixel_aspect: Fraction
    cut_off: float | None
    undecodable: int = 0
    stamped: bool = True

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def seconds(self) -> np.ndarray:
        """(N,) when each frame is shown, the first at 0."""
        return (self.times - self.times[0]) * float(self.time_base)


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Reads the packets of a video without decoding them, all but the first frame.

    A file that has not changed is read once.

    Raises:
      UserError: no such file, or it is no video, is damaged, has HDR brightness, or holds no frame.
    """
    path = as_path(path)
    try:
        stat = None if is_remote(path) else path.stat()
    except OSError:  # the reader says what is wrong
        stat = None
    return _probe(path, (stat.st_mtime_ns, stat.st_size) if stat else None)


@functools.lru_cache(maxsize=16)
def _probe(path: Path, version: tuple[int, int] | None) -> VideoInfo:
    del version  # a key: another one reads the file again
    with _opened(path) as container:
        stream = container.streams.video[0]
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise UserError(f"{path}: holds no frame that can be decoded")
        colour_notes(first, str(path))
        height, width = first.height, first.width
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        if quarter_turns(first) % 2:
            height, width, aspect = width, height, 1 / aspect
    with _opened(path) as container:  # `seek` is not exact in every container
        stream = container.streams.video[0]
        packets = [
            (packet.pts, packet.dts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        ]
        # A cut may leave frames of before the beginning, for which Matroska has no time.
        before = _without_time(packets)
        packets = [packet for place, packet in enumerate(packets) if place not in before]
        starts = [is_key for _, _, is_key in packets]
        # AVI holds no times of showing but those of decoding, which may be in another order.
        stamped = all(starts) or (
            container.format.name != "avi" and all(pts is not None for pts, _, _ in packets)
        )
        stamps: list[Any] = [dts if pts is None else pts for pts, dts, _ in packets]
        nominal = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        base = Fraction(stream.time_base)
        if any(stamp is None for stamp in stamps):  # raw streams carry no times
            stamped = False
            base = 1 / Fraction(nominal)
            stamps = list(range(len(stamps)))
        if not stamps:
            raise UserError(f"{path}: holds no frame that can be decoded")
        times = np.sort(np.array(stamps, np.int64))
        begin = _stamp(first, base) if stamped else None
        undecodable = 0 if begin is None else int(np.sum(times < begin))
        if 0 < undecodable < len(times):
            times = times[undecodable:]
        else:
            undecodable = 0
        undecodable += len(before)
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
            is_deep(first),
            _other_tracks(container),
            aspect,
            named if named and end < _CUT_OFF * named - float(1 / rate) else None,
            undecodable,
            stamped,
        )


def read_frames(path: str | os.PathLike[str], start: int = 0) -> Iterator[LoadedImage]:
    """Yields the frames of a video in order, one at a time.

    Frames are `LoadedImage`, which `Fuser.stream` takes; `frame.samples.values` is the array: uint8
    (H, W, 3) RGB, or with more bits uint16 (or float32) (H, W) grey or (H, W, 3) RGB.

    Args:
      path: the file.
      start: frames before this one are decoded and passed over.

    Raises:
      UserError: the file cannot be read, or a frame is damaged or missing; the message has its
        number.
    """
    path = as_path(path)
    number = start
    info = probe_video(path)
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
            _check_time(info, number, frame)
            size = size or (frame.height, frame.width)
            if (frame.height, frame.width) != size:
                raise UserError(
                    f"{path}: frame {number} is {frame.width}x{frame.height}, those before "
                    f"{size[1]}x{size[0]}: a video with frames of one size is needed"
                )
            if number >= start:
                yield _loaded(path, number, frame)


def sample_frames(path: str | os.PathLike[str], count: int) -> Iterator[LoadedImage]:
    """Yields up to `count` frames, spread evenly over a video, without decoding all of it.

    Raises:
      UserError: see `read_frames`; frames that cannot be decoded are passed over.
    """
    for _, frame in frames_at(path, spread_places(probe_video(path).frames, count)):
        yield frame


def spread_places(total: int, count: int) -> np.ndarray:
    """Up to `count` different numbers from 0 to below `total`, ascending and spread evenly."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))


def frames_at(
    path: str | os.PathLike[str], numbers: Iterable[int]
) -> Iterator[tuple[int, LoadedImage]]:
    """Yields frames of a video with their numbers, ascending, without decoding all of it.

    All of it is decoded where the container cannot be searched exactly (MPEG transport and program
    streams) or does not say when frames are shown.

    Raises:
      UserError: see `read_frames`; frames that cannot be decoded are passed over.
    """
    info = probe_video(path)
    left = sorted({int(number) for number in numbers})
    if info.stamped:
        with _opened(info.path) as container:
            stream = container.streams.video[0]
            reached = float(info.times[0])
            while left:
                wanted = int(info.times[left[0]])
                before = info.keys[info.keys <= wanted]
                searched = len(before) > 0 and before[-1] > reached  # else it is nearer to go on
                found = None
                try:
                    if searched:
                        container.seek(int(before[-1]), stream=stream)
                    skipped, frame = -1, None
                    for skipped, frame in enumerate(container.decode(stream)):  # noqa: B007
                        found = _nearest_time(info, _stamp(frame, info.time_base) or 0.0)
                        if found >= wanted:
                            break
                    if found is None or (found > wanted and searched and not skipped):
                        break  # the search led elsewhere
                except pyav().FFmpegError:
                    left.pop(0)
                    continue
                reached = found
                number = left.pop(0)
                if found == wanted and frame is not None and not frame.is_corrupt:
                    yield number, _loaded(info.path, number, frame)
    if left:
        yield from _in_order(info, set(left))


def _in_order(info: VideoInfo, numbers: Collection[int]) -> Iterator[tuple[int, LoadedImage]]:
    """Decodes a video up to the last of some frames, and yields these."""
    with _opened(info.path) as container:
        frames = container.decode(container.streams.video[0])
        for count in range(max(numbers) + 1):
            try:
                frame = next(frames, None)
            except pyav().FFmpegError:
                return
            if frame is None:
                return
            number, stamp = count, _stamp(frame, info.time_base)
            if info.stamped and stamp is not None:
                time = _nearest_time(info, stamp)
                if time != info.times[count]:
                    number = int(np.searchsorted(info.times, time))
            if number in numbers and not frame.is_corrupt:
                yield number, _loaded(info.path, number, frame)


def _loaded(path: Path, number: int, frame: Any) -> LoadedImage:
    name = f"{path} frame {number}"
    return LoadedImage(frame_samples(frame, name), name)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a video; errors of FFmpeg in the `with` block become a `UserError`."""
    av = pyav()
    if is_remote(path):
        raise UserError(f"{path}: videos are read from local disks: copy it here first")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a video file")
    if path.exists() and not path.is_file():  # opening it might wait for ever
        raise UserError(f"{path}: is a pipe or a device: save the video as a file")
    try:
        with open_for_reading(path) as container:
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


def _other_tracks(container: Any) -> dict[str, int]:
    """Kind -> how many tracks a file holds besides its first video track."""
    used = container.streams.video[0]
    kinds = [
        f"{'further ' * (stream.type == 'video')}{stream.type} track"
        for stream in container.streams
        if stream is not used
    ]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def _without_time(packets: Sequence[tuple[Any, Any, bool]]) -> set[int]:
    """Places of packets (pts, dts, key) without any time, if all are in the first group."""
    keys = [place for place, (_, _, is_key) in enumerate(packets) if is_key]
    end = keys[1] if len(keys) > 1 else len(packets)
    lacking = {k for k, (pts, dts, _) in enumerate(packets) if pts is None and dts is None}
    return lacking if 0 < len(lacking) < end and max(lacking) < end else set()


def _stamp(frame: Any, base: Fraction) -> float | None:
    """When a frame is shown, in units of `base`; None if it does not say."""
    if frame.pts is None:
        return None
    return float(frame.pts * Fraction(frame.time_base or base) / base)


def _nearest_time(info: VideoInfo, stamp: float) -> int:
    """That of the video's times which is nearest; some decoders round theirs."""
    after = int(np.searchsorted(info.times, stamp))
    near = info.times[max(0, after - 1) : after + 1]
    return int(near[np.abs(near - stamp).argmin()])


def _check_time(info: VideoInfo, number: int, frame: Any) -> None:
    """Checks that a decoded frame is the one of its number.

    Raises:
      UserError: the decoder left out frames before it, which would move all others.
    """
    stamp = _stamp(frame, info.time_base)
    if not info.stamped or stamp is None or number >= info.frames:
        return
    if _nearest_time(info, stamp) != info.times[number]:
        seconds = float((stamp - info.times[0]) * info.time_base)
        raise UserError(
            f"{info.path}: frame {number} should be shown at {info.seconds[number]:.3f} s, but the "
            f"next that can be decoded is that of {seconds:.3f} s: the file is damaged or was cut "
            "without encoding it again; encode it again"
        )


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
