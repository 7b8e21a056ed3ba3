"""Writing video files, frame by frame; `video_parts` joins those that were written in turn."""

import dataclasses
import json
import os
import signal
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.values import check_rgb, with_depth
from ditfuse_jax.images.video_pixels import accurate, open_for_reading, pyav
from ditfuse_jax.paths import as_path, is_remote

_CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}
WRITTEN_VIDEO_SUFFIXES = frozenset(_CONTAINERS)

_BT709, _LIMITED = 1, 1
# Without B-frames a packet's place in the file is its place in time, so that parts can be joined.
_H264 = {"crf": "14", "preset": "medium", "bf": "0"}
# Each frame by itself, with check sums, by which a player notices damage.
_FFV1 = {"level": "3", "g": "1", "slicecrc": "1"}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    Attributes:
      container: FFmpeg's name of the file format.
      codec: FFmpeg's name of the encoder.
      pixel_format: FFmpeg's name.
      options: of the encoder.
    """

    container: str
    codec: str
    pixel_format: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def note(self) -> str | None:
        """What a user should know about players; None if all show it."""
        if self.pixel_format == "yuv444p":
            return (
                "an odd width or height is kept by H.264 4:4:4, which some players and browsers do "
                "not show: crop the sources by a pixel for 4:2:0"
            )
        return None


def choose_encoding(path: str | os.PathLike[str], size: tuple[int, int], depth: int) -> Encoding:
    """Returns how a video of this suffix, size (height, width) and depth is encoded.

    8 bits: H.264 of high quality; an odd size needs 4:4:4, since 4:2:0 halves both sides.
    16 bits: FFV1, lossless, in .mkv.

    Raises:
      UserError: an unknown suffix, or 16 bits in a format that does not hold them.
    """
    path = as_path(path)
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        known = " ".join(sorted(_CONTAINERS))
        raise UserError(f"{path}: no video is written with the suffix {path.suffix!r} ({known})")
    if depth == 16:
        if not is_deep_video(path):
            raise UserError(f"{path}: this format has 8 bits: use .mkv for 16")
        return Encoding(container, "ffv1", "gbrp16le", tuple(_FFV1.items()))
    even = size[0] % 2 == 0 and size[1] % 2 == 0
    return Encoding(container, "libx264", "yuv420p" if even else "yuv444p", tuple(_H264.items()))


def is_deep_video(path: Path) -> bool:
    """Whether a video of the path's suffix is written with 16 bits per channel."""
    return path.suffix.lower() == ".mkv"


class VideoWriter:
    """Writes frames into a video file, which appears under its name when it is whole.

        with VideoWriter("fused.mp4", 25) as video:
            video.write(image)

    If the block ends by an exception, nothing is left.  Ctrl-C waits for the end of a call, so that
    no frame is written by half.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: float | Fraction,
        *,
        metadata: Mapping[str, str] | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ):
        """Creates a writer; the first frame decides size and depth.

        Args:
          path: ends in .mp4, .mov, .mkv or .avi.
          rate: frames per second.
          metadata: stored as JSON in the file's comment; see `read_video_metadata`.
          pixel_aspect: width of a pixel divided by its height.
        """
        self.path = as_path(path)
        self.count = 0
        self._rate = Fraction(rate).limit_denominator(100_000)
        self._metadata, self._aspect = metadata, pixel_aspect
        self._opened: Any = None
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self._depth = 8

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        self.close() if kind is None else self.discard()

    def write(self, image: np.ndarray) -> None:
        """Adds a frame, RGB (H, W, 3), uint8 or uint16.

        Formats with 8 bits get 8.

        Raises:
          UserError: it has another size than the first, or cannot be written.
        """
        check_rgb(image, str(self.path), deep=True)
        with interrupted_later():
            self._write(image)

    @property
    def is_open(self) -> bool:
        """Whether frames were written and neither finished nor removed."""
        return self._opened is not None

    def _write(self, image: np.ndarray) -> None:
        if self._size is None:
            self._open(image)
        elif image.shape[:2] != self._size:
            raise UserError(
                f"{self.path}: frame {self.count} is {image.shape[1]}x{image.shape[0]}, the first "
                f"{self._size[1]}x{self._size[0]}: all frames of a video have one size"
            )
        image = np.ascontiguousarray(with_depth(image, self._depth))
        av = pyav()
        with self._failures():
            frame = av.VideoFrame.from_ndarray(
                image, format="rgb48le" if self._depth == 16 else "rgb24"
            )
            frame = _converted(frame, self._stream.pix_fmt)
            frame.pts, frame.time_base = self.count, 1 / self._rate
            self._container.mux(self._stream.encode(frame))
        self.count += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; does nothing if that or a removal happened.

        Raises:
          UserError: no frame was written, or the file cannot be.
        """
        if self._size is None:
            raise UserError(f"{self.path}: no frames to write")
        if self._opened is None:
            return
        with interrupted_later(), self._failures():
            self._container.mux(self._stream.encode(None))
            self._opened.__exit__(None, None, None)
            self._opened = None

    def discard(self) -> None:
        """Removes what was written."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            with suppress(_Discarded):
                error = _Discarded()
                opened.__exit__(_Discarded, error, None)

    def _open(self, image: np.ndarray) -> None:
        size = image.shape[0], image.shape[1]
        self._depth = 16 if image.dtype == np.uint16 and is_deep_video(self.path) else 8
        encoding = choose_encoding(self.path, size, self._depth)
        with self._failures():
            self._opened = new_video_file(self.path, encoding.container, self._metadata)
            self._container = self._opened.__enter__()
            stream = self._container.add_stream(
                encoding.codec, rate=self._rate, options=dict(encoding.options)
            )
            stream.height, stream.width = size
            stream.pix_fmt = encoding.pixel_format
            context = stream.codec_context
            context.time_base = 1 / self._rate
            if self._aspect != 1:
                context.sample_aspect_ratio = self._aspect
            if encoding.pixel_format.startswith("yuv"):
                context.colorspace = context.color_primaries = context.color_trc = _BT709
                context.color_range = _LIMITED
            self._stream = stream
        self._size = size

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Removes the file if the block fails."""
        try:
            yield
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError | pyav().FFmpegError):
                raise write_error(self.path, error) from error
            raise


@contextmanager
def interrupted_later() -> Iterator[None]:
    """Lets Ctrl-C wait until the block has ended: no block is left half done."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is None:  # a handler that is not Python's
        yield
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            signal.raise_signal(signal.SIGINT)


class _Discarded(Exception):
    """Ends a file that is not to be kept."""


@contextmanager
def new_video_file(path: Path, container: str, metadata: Mapping[str, str] | None) -> Iterator[Any]:
    """Opens a container under a temporary name; it is renamed if the block ends well.

    Python writes the file: FFmpeg itself does not report a disk that is full when it closes one.
    """
    if is_remote(path):
        raise UserError(f"{path}: videos are written to local disks: write it here, then copy it")
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            opened = pyav().open(file, "w", format=container)
            try:
                opened.metadata["comment"] = json.dumps(dict(metadata or {}))
                yield opened
                opened.close()
            except BaseException:
                with suppress(Exception):
                    opened.close()
                raise
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _converted(frame: Any, pixel_format: str) -> Any:
    """Converts an RGB frame to the encoder's format, colour as BT.709."""
    if not pixel_format.startswith("yuv"):
        return frame.reformat(format=pixel_format)
    kinds = pyav().video.reformatter
    return frame.reformat(
        format=pixel_format,
        dst_colorspace=kinds.Colorspace.ITU709,
        dst_color_range=kinds.ColorRange.MPEG,
        interpolation=accurate(),
    )


def read_video_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the metadata that `VideoWriter` stored; nothing of any other file."""
    av = pyav()
    try:
        with open_for_reading(path) as container:
            tags = {name.lower(): value for name, value in container.metadata.items()}
        values = json.loads(tags.get("comment", ""))
    except (OSError, ValueError, av.FFmpegError):
        return {}
    return values if isinstance(values, dict) else {}


def write_error(path: Path, error: BaseException) -> UserError:
    return UserError(
        f"{path}: cannot be written ({reason(error)}); free space or choose another folder"
    )
