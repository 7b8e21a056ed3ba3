"""Where the frames of a sequence go: a folder of images, or a video that is written in parts.

Either can be interrupted at any moment: what is finished stays, and the same job finds it again by
a fingerprint.
"""

import glob
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, reason, remove_folder
from ditfuse_jax.images import write_image
from ditfuse_jax.images.video_parts import count_packets, join_videos
from ditfuse_jax.images.video_writer import VideoWriter, choose_encoding, read_video_metadata
from ditfuse_jax.sample.fingerprints import KEY, has_fingerprint, text_digest
from ditfuse_jax.sample.folder_lock import FolderLock
from ditfuse_jax.sample.watched_outputs import WatchedOutputs

_PART_SECONDS = 30.0  # of work that a kill may lose
_PART_FRAMES = 500


class SequenceOutput(Protocol):
    """Takes the frames of a sequence in order."""

    def done(self, number: int) -> bool:
        """Whether a frame is finished, by this or an earlier call of the same job."""
        ...

    def write(self, number: int, image: np.ndarray, metadata: Mapping[str, str]) -> None:
        """Takes the next frame that is not done."""
        ...

    def finish(self, metadata: Mapping[str, str]) -> list[Path]:
        """Completes the output and returns its files; all frames are done."""
        ...

    def stop(self) -> None:
        """Keeps what is finished so far; the job goes on another time."""
        ...


class FrameFolder:
    """Frames as PNG files, each with a fingerprint in its metadata."""

    def __init__(self, folder: Path, names: Sequence[str], job: str):
        """Creates the output; `names` are those of all files, `job` tells jobs apart."""
        self._paths = [folder / name for name in names]
        self._keys = [text_digest(f"{job} {number}") for number in range(len(names))]
        self._folder = folder
        self._watched = WatchedOutputs(self._paths)

    def done(self, number: int) -> bool:
        return has_fingerprint(self._paths[number], self._keys[number])

    def write(self, number: int, image: np.ndarray, metadata: Mapping[str, str]) -> None:
        make_folder(self._folder)
        path, key = self._paths[number], self._keys[number]
        if not self._watched.is_made(path, key):
            write_image(path, image, {**metadata, KEY: key}, quick=True)
            self._watched.written(path, key)

    def finish(self, metadata: Mapping[str, str]) -> list[Path]:
        del metadata
        self._watched.check()
        return list(self._paths)

    def stop(self) -> None:
        pass


class VideoFile:
    """A video whose finished parts are kept in a folder beside it and joined at the end."""

    def __init__(
        self,
        path: Path,
        job: str,
        times: np.ndarray,
        time_base: Fraction,
        pixel_aspect: Fraction = Fraction(1),
        *,
        quiet: bool = False,
    ):
        """Finds the parts of an earlier call.

        Args:
          path: the video.
          job: tells jobs apart: only parts of the same job are used.
          times: (N,) int64, when each frame is shown, in units of `time_base`.
          time_base: seconds.
          pixel_aspect: width of a pixel divided by its height.
          quiet: print nothing.

        Raises:
          UserError: another process works on the same parts, or one of them cannot be removed.
        """
        self._path, self._job = path, job
        self._times, self._base, self._aspect = times, time_base, pixel_aspect
        self._quiet = quiet
        span = float((times[-1] - times[0]) * time_base) if len(times) > 1 else 0.0
        self._rate = (len(times) - 1) / span if span else 1 / time_base
        self.folder = path.with_name(f"{path.name}.parts-{job[:12]}")
        self._parts: list[Path] = []
        self._writer: VideoWriter | None = None
        self._lock: FolderLock | None = None
        self._opened_at = 0.0
        self.count = 0
        self._complete = path.is_file() and read_video_metadata(path).get(KEY) == job
        if self._complete:
            self.count = len(times)
        elif self.folder.is_dir():
            self._lock = FolderLock(self.folder)
            try:
                self._find_parts()
            except UserError:
                self._release()
                raise
        if not quiet:
            self._tell_others()

    def done(self, number: int) -> bool:
        return number < self.count

    def write(self, number: int, image: np.ndarray, metadata: Mapping[str, str]) -> None:
        del metadata  # that of the whole video is written at its end
        if number != self.count + (self._writer.count if self._writer else 0):
            raise ValueError(f"frame {number} is not the next one")
        if self._writer is None:
            if number == 0 and not self._quiet:
                depth = 16 if image.dtype == np.uint16 else 8
                note = choose_encoding(self._path, image.shape[:2], depth).note
                if note:
                    tqdm.tqdm.write(f"{self._path}: {note}", file=sys.stderr)
            make_folder(self.folder)
            if self._lock is None:
                self._lock = FolderLock(self.folder)
            part = self.folder / f"{number:08d}{self._path.suffix.lower()}"
            self._writer = VideoWriter(part, self._rate, pixel_aspect=self._aspect)
            self._opened_at = time.monotonic()
        try:
            self._writer.write(image)
        except BaseException as error:
            if not self._writer.is_open:  # the part was removed
                self._writer = None
            if isinstance(error, UserError):
                raise self._with_hint(error) from error
            raise
        long = time.monotonic() - self._opened_at > _PART_SECONDS
        if long or self._writer.count >= _PART_FRAMES:
            self._end_part()

    def finish(self, metadata: Mapping[str, str]) -> list[Path]:
        if not self._complete:
            self._end_part()
            marked = {**metadata, KEY: self._job}
            try:
                join_videos(self._parts, self._path, self._times, self._base, marked)
            except UserError as error:
                raise self._with_hint(error) from error
            remove_folder(self.folder)
            self._release()
        return [self._path]

    def stop(self) -> None:
        try:
            with suppress(UserError):
                self._end_part()
        finally:
            self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _tell_others(self) -> None:
        """Names the parts that other settings or sources have left."""
        pattern = f"{glob.escape(self._path.name)}.parts-*"
        others = sorted(set(self._path.parent.glob(pattern)) - {self.folder})
        if others:
            names = " ".join(map(str, others))
            tqdm.tqdm.write(
                f"{names}: finished parts of this video with other settings or sources, which are "
                "not used: remove them if you do not go on with those",
                file=sys.stderr,
            )

    def _find_parts(self) -> None:
        """Takes the parts that follow each other from the first frame on; removes the rest."""
        for part in sorted(self.folder.glob(f"*{self._path.suffix.lower()}")):
            frames = count_packets(part) if part.stem == f"{self.count:08d}" else 0
            if 0 < frames <= len(self._times) - self.count:
                self._parts.append(part)
                self.count += frames
            else:
                _remove(part)
        for left in self.folder.glob(".*.tmp"):  # of a call that was killed
            _remove(left)

    def _end_part(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except UserError as error:
                raise self._with_hint(error) from error
            self._parts.append(writer.path)
            self.count += writer.count

    def _with_hint(self, error: UserError) -> UserError:
        if not self.count:
            return error
        return UserError(
            f"{error}; {self.count} frames are kept in {self.folder}, with which the same command "
            "goes on"
        )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be removed ({reason(error)}), and is not a whole part: remove it"
        ) from error


class Opened:
    """Keeps what is finished of an output when a block ends by an exception."""

    def __init__(self, output: SequenceOutput):
        self._output = output

    def __enter__(self) -> SequenceOutput:
        return self._output

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._output.stop()
