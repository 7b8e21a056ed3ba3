"""What a sequence is written as: checks of the output, times, names and depth of its frames."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import IMAGE_SUFFIXES
from ditfuse_jax.images.frames import FrameSource, PairedFrames
from ditfuse_jax.images.video_pixels import pyav
from ditfuse_jax.images.video_writer import WRITTEN_VIDEO_SUFFIXES, is_deep_video
from ditfuse_jax.paths import is_remote, is_video

_SAME_SHAPE = 0.01  # relative difference of pixels that count as equal


def check_output(output: Path, sources: Sequence[FrameSource]) -> None:
    suffix, is_folder = output.suffix.lower(), output.is_dir()
    known = " ".join(sorted(WRITTEN_VIDEO_SUFFIXES))
    if is_remote(output):
        raise UserError(f"{output}: sequences are written to local disks: copy it afterwards")
    if is_video(output):
        pyav()
        if is_folder:
            raise UserError(f"{output} is a folder: name a video, or another folder for frames")
        if suffix not in WRITTEN_VIDEO_SUFFIXES:
            raise UserError(f"{output}: videos are written as {known}")
    elif not is_folder:
        if suffix in IMAGE_SUFFIXES or suffix == ".gif":
            raise UserError(
                f"{output}: a sequence needs a folder for its frames, or a video ({known})"
            )
        if output.exists():
            raise UserError(f"{output} is a file: frames need a folder as output")
    for source in sources:
        if output.exists() and output.samefile(source.path):
            raise UserError(f"{output} is one of the sources: choose another output")
        if source.files and output.resolve() == source.path.resolve():
            raise UserError(f"{output} holds frames to fuse: choose another output")


def output_times(
    sources: Sequence[FrameSource], pairs: PairedFrames, output: Path
) -> tuple[np.ndarray, Fraction]:
    """When the fused frames are shown, and the unit of these times in seconds."""
    numbers, first = pairs.numbers[0], sources[0]
    if first.video is not None and first.video.variable:
        if is_video(output) and output.suffix.lower() == ".avi":
            raise UserError(
                f"{first.path} shows its frames at uneven times, which .avi does not hold: use "
                ".mp4, .mov or .mkv"
            )
        return first.video.times[numbers], first.video.time_base
    rate = next((source.rate for source in sources if source.rate is not None), None)
    if rate is None:
        if is_video(output):
            raise UserError(f"{output}: give the rate of the folders' frames with --fps")
        rate = Fraction(1)
    return np.arange(pairs.count), 1 / rate


def source_notes(sources: Sequence[FrameSource], output: Path) -> Iterator[str]:
    """What a user should know of the sources."""
    shapes = [Fraction(1) if s.video is None else s.video.pixel_aspect for s in sources]
    for source, shape in zip(sources[1:], shapes[1:], strict=True):
        if abs(shape / shapes[0] - 1) > _SAME_SHAPE:
            yield (
                f"{sources[0].path} has pixels of {_ratio(shapes[0])} and {source.path} of "
                f"{_ratio(shape)} (width to height): they are fused pixel by pixel, so check that "
                "they show the same"
            )
    if abs(shapes[0] - 1) > _SAME_SHAPE and not is_video(output):
        yield (
            f"{sources[0].path} has pixels of {_ratio(shapes[0])} (width to height), which its "
            f"frames in {output} do not say: viewers show them as squares"
        )
    video = sources[0].video
    if video is not None and video.variable and is_video(output):
        yield (
            f"{video.path} shows its frames at uneven times ({float(video.rate):.4g} per second on"
            f" average), which {output} keeps"
        )


def _ratio(shape: Fraction) -> str:
    return f"{shape.numerator}:{shape.denominator}"


def frame_names(first: FrameSource, pairs: PairedFrames) -> list[str]:
    """File names of the fused frames: those of a folder, or numbers."""
    if first.files:
        return [f"{first.files[number].stem}.png" for number in pairs.numbers[0]]
    width = max(6, len(str(pairs.count)))
    return [f"{number:0{width}d}.png" for number in range(pairs.count)]


def holds_deep_frames(output: Path) -> bool:
    """Whether frames are written there with 16 bits if they have them."""
    return not is_video(output) or is_deep_video(output)


def choose_bits(
    sources: Sequence[FrameSource],
    measured: Mapping[int, Sequence[Any]],
    output: Path,
    depth: int | None,
) -> int:
    """Returns the bits of all fused frames: 16 if a source has more than 8 and the output can.

    Args:
      sources: those that are fused.
      measured: source -> its frames that have more than 8 bits; see `measure_frames`.
      output: the video or folder.
      depth: the bits that were asked for, if any.
    """
    if depth is not None:
        return depth
    if not holds_deep_frames(output):
        return 8
    deep = any(source.video is not None and source.video.deep for source in sources)
    return 16 if deep or measured else 8
