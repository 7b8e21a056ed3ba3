"""The frames of a sequence, from video files or folders, and which of them belong together."""

import contextlib
import dataclasses
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from ditfuse_jax.errors import UserError, one_line
from ditfuse_jax.files import sha256
from ditfuse_jax.images.decode import IMAGE_SUFFIXES, image_size, read_samples
from ditfuse_jax.images.in_memory import LoadedImage
from ditfuse_jax.images.pairs import files_by_stem, paired_files
from ditfuse_jax.images.ranges import SampleStatistics, measure_samples
from ditfuse_jax.images.video import (
    VideoInfo,
    frames_at,
    probe_video,
    read_frames,
    sample_frames,
    spread_places,
)
from ditfuse_jax.paths import VIDEO_SUFFIXES, as_path, check_different_folders, is_remote, is_video

Pairing = Literal["number", "shortest", "time"]
PAIRINGS: tuple[Pairing, ...] = ("number", "shortest", "time")

MEASURED_FRAMES = 16  # of a source, by which the range of its samples is chosen
_NAMES_SHOWN = 5  # of files that are no frames
_SAME_RATE = 5e-4  # relative difference of rates that count as one


@dataclasses.dataclass(frozen=True, eq=False)
class FrameSource:
    """One camera's frames.

    Attributes:
      path: the video, or the folder.
      count: number of frames.
      rate: frames per second; None of a folder whose rate is not given.
      files: those of a folder, in their order; empty for a video.
      video: what the video holds; None for a folder.
      left_out: what the folder or video holds besides its frames, in one line; empty if nothing.
    """

    path: Path
    count: int
    rate: Fraction | None
    files: tuple[Path, ...] = ()
    video: VideoInfo | None = None
    left_out: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame."""
        return self.video.size if self.video is not None else image_size(self.files[0])

    @property
    def seconds(self) -> np.ndarray:
        """(N,) when each frame is shown, the first at 0; the rate must be known."""
        if self.video is not None:
            return self.video.seconds
        assert self.rate is not None
        return np.arange(self.count) / float(self.rate)

    def frames(self, start: int = 0) -> Iterator[LoadedImage]:
        """Yields the frames in order from the number `start` on, one at a time.

        Raises:
          UserError: one cannot be read, or the video ends before its last frame.
        """
        number = start
        if self.video is None:
            for number in range(start, self.count):
                path = self.files[number]
                yield LoadedImage(read_samples(path), str(path))
            return
        for frame in read_frames(self.path, start):
            yield frame
            number += 1
        if number < self.count:
            raise UserError(
                f"{self.path}: ends after frame {number} of {self.count}: it is damaged"
            )

    def sample(self, count: int) -> Iterator[LoadedImage]:
        """Yields up to `count` frames, spread evenly; those that cannot be read are passed over."""
        if self.video is not None:
            yield from sample_frames(self.path, count)
            return
        for _, frame in self.at(spread_places(self.count, count)):
            yield frame

    def at(self, numbers: Iterable[int]) -> Iterator[tuple[int, LoadedImage]]:
        """Yields the frames of some numbers, with these, ascending; unreadable ones are missing."""
        if self.video is not None:
            yield from frames_at(self.path, numbers)
            return
        for number in sorted({int(number) for number in numbers}):
            path = self.files[number]
            try:
                samples = read_samples(path)
            except UserError:
                continue
            yield number, LoadedImage(samples, str(path))

    def digest(self) -> str:
        """Returns a digest of the files' contents."""
        if self.video is not None:
            return sha256(self.path)
        hashed = hashlib.sha256()
        for path in self.files:
            hashed.update(f"{path.name} {sha256(path)}\n".encode())
        return hashed.hexdigest()


def open_sources(
    paths: Sequence[Path | str], rate: float | Fraction | None = None
) -> list[FrameSource]:
    """Opens videos and folders of frames.

    A folder's images are its frames, in the order of their names, whose numbers count as numbers:
    `f9.png` is before `f10.png`.  The files of several folders belong together by name.

    Args:
      paths: two to four.
      rate: frames per second of the folders.

    Raises:
      UserError: one is neither, cannot be read, folders hold different names, one is named twice or
        holds a name twice, or the rate is not a number above 0 or no source is a folder.
    """
    if rate is not None and not (math.isfinite(rate) and 1e-5 <= rate <= 1e6):
        raise UserError(f"--fps {rate}: give frames per second, a number above 0 like 25")
    places = [as_path(path) for path in paths]
    for place in places:
        if is_video(place) or place.is_dir():
            continue
        if not place.exists():
            raise UserError(f"{place}: no such file or folder")
        kind = "an image" if place.suffix.lower() in IMAGE_SUFFIXES else "of another kind"
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise UserError(f"{place} is {kind}: give videos ({known}) or folders of frames")
    folders = [place for place in places if not is_video(place)]
    check_different_folders(folders)
    listed: dict[Path, tuple[Path, ...]] = {}
    if len(folders) > 1:
        stacks = sorted(paired_files(*folders), key=lambda stack: _natural(stack[0]))
        listed = dict(zip(folders, zip(*stacks, strict=True), strict=True))
    elif folders:
        listed = {folders[0]: tuple(sorted(files_by_stem(folders[0]).values(), key=_natural))}
    fps = None if rate is None else Fraction(rate).limit_denominator(100_000)
    if fps is not None and not folders:
        raise UserError(
            "--fps is the rate of folders' frames, and no source is a folder: leave it out"
        )
    sources = []
    for place in places:
        if is_video(place):
            info = probe_video(place)
            others = _listed(info.other_tracks)
            sources.append(FrameSource(place, info.frames, info.rate, (), info, others))
        else:
            files = listed[place]
            sources.append(FrameSource(place, len(files), fps, files, None, _others(place)))
    return sources


def _others(folder: Path) -> str:
    """Returns what a folder holds besides images; hidden names do not count.

    Raises:
      UserError: what is named like an image is a link to nothing, a pipe or a device: a frame that
        is missing would move all that follow.
    """
    if is_remote(folder):
        return ""
    files, folders = [], []
    with os.scandir(folder) as entries:  # which asks the disk nothing more about most of them
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            folders.append(entry.name)
        elif Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES:
            files.append(entry.name)
        elif not entry.is_file():
            what = "a link to nothing" if entry.is_symlink() else "a pipe or a device"
            raise UserError(f"{entry.path}: is {what}: restore this frame, or remove its name")
    kinds = {"file": files, "folder": folders}
    text = _listed({kind: len(names) for kind, names in kinds.items() if names})
    return f"{text} ({', '.join([*files, *folders][:_NAMES_SHOWN])})" if text else ""


def _listed(counts: Mapping[str, int]) -> str:
    """Returns `2 files, 1 folder`."""
    return ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items())


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts names so that the numbers in them count."""
    parts = re.split(r"(\d+)", path.stem)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]


@dataclasses.dataclass(frozen=True, eq=False)
class PairedFrames:
    """Which frames of the sources are fused with each other.

    Attributes:
      numbers: for each source (N,), ascending: its frame in each of the N fused ones.
      notes: what is left out or repeated, one line each.
    """

    numbers: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of fused frames."""
        return len(self.numbers[0])


def pair_frames(sources: Sequence[FrameSource], pairing: str = "number") -> PairedFrames:
    """Chooses which frames of the sources belong together.

    Args:
      sources: two to four.
      pairing: `number`: frame n with frame n, and all sources must have as many frames at one rate;
        `shortest`: the same, up to the end of the shortest; `time`: each frame of the first with
        the nearest in time of the others, all of which begin together.

    Raises:
      UserError: the sources do not fit, or a rate is not known.
    """
    if pairing not in PAIRINGS:
        raise UserError(f"pairing {pairing!r} is not one of {', '.join(PAIRINGS)}")
    for source in sources:
        seconds = None if source.video is None else source.video.cut_off
        if seconds is not None and pairing == "number":
            raise UserError(
                f"{source.path}: is cut off: it has {source.count} frames ({source.seconds[-1]:.1f}"
                f" s) of the {seconds:.1f} s that it names; --pairing shortest or time fuses those"
            )
    cut = tuple(
        f"left out: the first {source.video.undecodable} frames of {source.path}: they cannot be "
        "decoded, since what they refer to was cut off"
        for source in sources
        if source.video is not None and source.video.undecodable
    )
    others = tuple(
        one_line(f"left out: {source.left_out} of {source.path}")
        for source in sources
        if source.left_out
    )
    pairs = _by_time(sources) if pairing == "time" else _by_number(sources, pairing)
    return PairedFrames(pairs.numbers, (*others, *cut, *pairs.notes))


def _by_number(sources: Sequence[FrameSource], pairing: str) -> PairedFrames:
    first = sources[0]
    for other in sources[1:]:
        if first.rate and other.rate and abs(other.rate / first.rate - 1) > _SAME_RATE:
            raise UserError(
                f"{first.path} has {float(first.rate):.6g} frames per second and {other.path} "
                f"{float(other.rate):.6g}: --pairing time fuses each frame with the nearest in time"
            )
    counts = [source.count for source in sources]
    least = min(counts)
    if pairing == "number" and max(counts) > least:
        other = next(source for source in sources[1:] if source.count != first.count)
        raise UserError(
            f"{first.path} has {first.count} frames and {other.path} {other.count}: --pairing "
            "shortest leaves the surplus out, --pairing time pairs by time"
        )
    notes = [
        f"left out: the last {source.count - least} of {source.count} frames of {source.path}"
        for source in sources
        if source.count > least
    ]
    notes += [note for other in sources[1:] if (note := _uneven(first, other, least))]
    return PairedFrames(tuple(np.arange(least) for _ in sources), tuple(notes))


def _uneven(first: FrameSource, other: FrameSource, count: int) -> str | None:
    """A line on frames of equal number that are not shown at the same time; None if they are."""
    if first.rate is None or other.rate is None or count < 2:
        return None
    if not any(source.video is not None and source.video.variable for source in (first, other)):
        return None
    apart = float(np.abs(first.seconds[:count] - other.seconds[:count]).max())
    if apart <= 0.5 / float(first.rate):
        return None
    return (
        f"{first.path} and {other.path} show frames of equal number up to {apart:.3g} s apart: they"
        " are paired by number; --pairing time pairs by time"
    )


def _by_time(sources: Sequence[FrameSource]) -> PairedFrames:
    for source in sources:
        if source.rate is None:
            raise UserError(
                f"{source.path}: pairing by time needs the rate of this folder's frames: give --fps"
            )
    times = [source.seconds for source in sources]
    # A frame is shown until the next one: the last as long as those before, on average.
    ends = [
        float(own[-1]) + 1 / float(source.rate or 1)
        for own, source in zip(times, sources, strict=True)
    ]
    kept = times[0][times[0] < min(ends) - 1e-9]
    numbers = tuple(_nearest(own, kept) for own in times)
    notes = [
        f"left out: the last {len(times[0]) - len(kept)} of {len(times[0])} frames of "
        f"{sources[0].path}, after the end of another source"
    ] * (len(kept) < len(times[0]))
    for source, used in zip(sources[1:], numbers[1:], strict=True):
        distinct = len(np.unique(used))
        notes.append(
            f"{source.path}: {distinct} of {source.count} frames are used, paired by time"
            + (f", each {len(used) / distinct:.3g} times" if distinct < len(used) else "")
        )
    return PairedFrames(numbers, tuple(notes))


def _nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the nearest of ascending times for each wanted one; of two as near the first."""
    after = np.clip(np.searchsorted(times, wanted - 1e-9), 1, max(1, len(times) - 1))
    if len(times) == 1:
        return np.zeros(len(wanted), int)
    earlier = wanted - times[after - 1] <= times[after] - wanted + 1e-9
    return np.where(earlier, after - 1, after)


def read_pairs(
    sources: Sequence[FrameSource], pairs: PairedFrames, start: int = 0
) -> Iterator[tuple[LoadedImage, ...]]:
    """Yields the images of each fused frame from the number `start` on; holds one of each source.

    Raises:
      UserError: see `FrameSource.frames`.
    """
    if start >= pairs.count:
        return
    streams = [
        _picked(source, numbers[start:])
        for source, numbers in zip(sources, pairs.numbers, strict=True)
    ]
    yield from zip(*streams, strict=True)


def _picked(source: FrameSource, numbers: np.ndarray) -> Iterator[LoadedImage]:
    frames = source.frames(int(numbers[0]))
    place, frame = int(numbers[0]), next(frames)
    for number in numbers.tolist():
        while place < number:
            place, frame = place + 1, next(frames)
        yield frame


def measure_frames(sources: Sequence[FrameSource]) -> dict[int, list[SampleStatistics]]:
    """Measures the samples of frames that are spread over the sequence; see `SourceRanges`.

    Returns:
      Source -> one entry per frame; sources with 8 bits are left out.
    """
    measured: dict[int, list[SampleStatistics]] = {}
    for number, source in enumerate(sources):
        if source.video is not None and not source.video.deep:
            continue
        for frame in source.sample(MEASURED_FRAMES):
            samples = frame.samples
            if samples.values.dtype == np.uint8:
                continue
            with contextlib.suppress(UserError):  # a frame without a finite sample
                statistics = measure_samples(samples.values, samples.full_range)
                measured.setdefault(number, []).append(statistics)
    return measured
