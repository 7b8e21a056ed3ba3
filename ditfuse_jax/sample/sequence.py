"""Fuses sequences: videos and folders of frames, into a video or a folder.

All frames share the prompt, the noise, the ranges of their samples and the warp between the
cameras, so that nothing but the sources changes from frame to frame.  Frames are read, fused and
written one after the other.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.align import MODELS, calibrate_stacks, read_calibration, write_calibration
from ditfuse_jax.align.calibration import Calibration
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, sha256
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import IMAGE_SUFFIXES, RangeOption, SourceRanges, numbered_folders
from ditfuse_jax.images.decode import list_images
from ditfuse_jax.images.frames import (
    FrameSource,
    PairedFrames,
    measure_frames,
    open_sources,
    pair_frames,
    read_pairs,
)
from ditfuse_jax.images.pairs import MAX_STACK
from ditfuse_jax.images.video import is_video, pyav
from ditfuse_jax.images.video_writer import WRITTEN_VIDEO_SUFFIXES, is_deep_video
from ditfuse_jax.paths import as_path, is_remote
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fingerprints import fuser_digest, text_digest
from ditfuse_jax.sample.fused import image_metadata
from ditfuse_jax.sample.fusion_input import FusionInput, marks_classes
from ditfuse_jax.sample.instructions import Instruction, make_instruction
from ditfuse_jax.sample.region import Regions
from ditfuse_jax.sample.sequence_fuser import SequenceFuser, SequenceSettings
from ditfuse_jax.sample.sequence_output import FrameFolder, Opened, SequenceOutput, VideoFile
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.stack_reader import StackReader
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS
from ditfuse_jax.sample.trained import WeightedAdapter, load_trained

_ALIGNED_FRAMES = 8  # by which the warp between the cameras is estimated
_SECONDS_BETWEEN_LINES = 30.0  # of the progress where no terminal shows it


@dataclasses.dataclass(frozen=True)
class SequenceOptions:
    """What a call of `fuse` asks for; see there."""

    prompts: Sequence[str] = ()
    task: str = "fuse"
    adjustments: Sequence[Request] = ()
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resize: bool = False
    value_range: RangeOption = "auto"
    depth: int | None = None
    align: str | Path | None = None
    align_save: Path | None = None
    region: str | Path | None = None
    feather: float | None = None
    fps: float | Fraction | None = None
    pairing: str = "number"
    settings: SequenceSettings = dataclasses.field(default_factory=SequenceSettings)
    quiet: bool = False


def fuse_sequence(
    inputs: Sequence[Path],
    output: Path,
    checkpoint: Path,
    adapters: Sequence[WeightedAdapter],
    base: Path | None,
    options: SequenceOptions,
) -> list[Path]:
    """Fuses sequences; see `fuse`.

    Raises:
      UserError: sources that do not fit each other, a frame that cannot be read or fused, a bad
        option, or an output that cannot be written.
    """
    output = as_path(output)
    sources = open_sources(_inputs(inputs), options.fps)
    _check_output(output, sources)
    pairs = pair_frames(sources, options.pairing)
    times, time_base = _output_times(sources, pairs, output)
    if len(options.prompts) > 1:
        raise UserError(f"{len(options.prompts)} prompts: a sequence is fused with one")
    if options.depth == 16 and is_video(output) and not is_deep_video(output):
        raise UserError(f"{output}: this format has 8 bits: use .mkv, or a folder, for 16")
    trained = load_trained(checkpoint, adapters, base)
    config = trained.sampling.override(options.sampling)
    fuser = StackFuser(trained, config)
    text = options.prompts[0] if options.prompts else None
    instruction = make_instruction(
        text, len(sources), config, options.task, list(options.adjustments)
    )
    fuser.check(instruction.prompt, len(sources))
    regions = None
    if options.region is not None:
        regions = Regions(options.region, options.feather, config, options.task)
        regions.check(instruction, len(sources))
    if not options.quiet:
        if instruction.understood is not None:
            print(instruction)
        for note in (*pairs.notes, *_notes(sources, output)):
            print(note, file=sys.stderr)
    ranges = SourceRanges(
        [tuple(source.path for source in sources)],
        options.value_range,
        one_camera=options.task in ONE_CAMERA_TASKS,
        quiet=options.quiet,
        measured=measure_frames(sources),
    )
    calibration = _calibration(sources, options, ranges)
    reader = StackReader(
        [],
        ranges,
        resize=options.resize,
        align=options.align or ("auto" if calibration else None),
        calibration=calibration,
        quiet=True,
    )
    job = _job_digest(sources, fuser, instruction, calibration, options, output)
    target: SequenceOutput
    if is_video(output):
        video = sources[0].video
        aspect = Fraction(1) if video is None else video.pixel_aspect
        target = VideoFile(output, job, times, time_base, aspect, quiet=options.quiet)
    else:
        target = FrameFolder(output, _names(sources[0], pairs), job)
    several = bool(instruction.requests) or marks_classes(instruction.prompt)
    plain = regions is None and not several  # else there may be other prompts and sources
    prompts = [instruction.prompt] if plain else []
    frames = SequenceFuser(trained, config, prompts, len(sources), options.settings)
    size = sources[0].size if is_video(output) else None
    work = _Work(
        sources, pairs, frames, instruction, reader, ranges, regions, options, config, size
    )
    return _run(work, target, output)


@dataclasses.dataclass
class _Work:
    """All that the frames are made with; `size` is the one that all must have, if any."""

    sources: Sequence[FrameSource]
    pairs: PairedFrames
    frames: SequenceFuser
    instruction: Instruction
    reader: StackReader
    ranges: SourceRanges
    regions: Regions | None
    options: SequenceOptions
    config: SamplingConfig
    size: tuple[int, int] | None

    def inputs(self, missing: Sequence[int], bits: int | None) -> Iterator[tuple[int, FusionInput]]:
        """Reads the frames that are missing, with their numbers."""
        wanted = set(missing)
        start = missing[0]
        for number, stack in enumerate(read_pairs(self.sources, self.pairs, start), start=start):
            if number not in wanted:
                continue
            if self.size is not None and stack[0].samples.values.shape[:2] != self.size:
                height, width = stack[0].samples.values.shape[:2]
                raise UserError(
                    f"{stack[0]} is {width}x{height}, the first frame {self.size[1]}x"
                    f"{self.size[0]}: all frames of a video have one size"
                )
            name = Path(stack[0].name).stem if self.sources[0].files else f"{number:06d}"
            item = self.instruction.fusion_input(self.reader.read(stack), bits, name)
            if self.regions is not None:
                item = self.regions.limit(item, name, self.reader.cut)
            yield number, item

    def metadata(self, size: tuple[int, int] | None) -> dict[str, str]:
        """What the output records; `size` (height, width) of the frames, if any was fused."""
        metadata = image_metadata(
            self.instruction,
            [source.path for source in self.sources],
            self.frames.stack_fuser,
            ranges=self.ranges.chosen,
            alignment=self.reader.alignment,
            region=None if self.regions is None else self.regions.description,
            computed=None if size is None else self.frames.stack_fuser.computed_size(*size),
        )
        settings = self.config.to_dict() | dataclasses.asdict(self.options.settings)
        return metadata | {name: str(value) for name, value in settings.items()}


def _run(work: _Work, target: SequenceOutput, output: Path) -> list[Path]:
    quiet, total = work.options.quiet, work.pairs.count
    missing = [number for number in range(total) if not target.done(number)]
    depth = work.options.depth
    deep = not is_video(output) or is_deep_video(output)
    bits = depth or (None if deep else 8)
    kept, started, size = total - len(missing), time.monotonic(), None
    steady = sys.stderr.isatty()
    bar = tqdm.tqdm(
        total=total,
        initial=kept,
        unit="frame",
        desc="fusing",
        delay=0.5,
        mininterval=0.1 if steady else _SECONDS_BETWEEN_LINES,
        disable=quiet,
    )
    with bar, Opened(target):
        for number, image in work.frames(_read_ahead(work, missing, bits, output)):
            size = image.shape[0], image.shape[1]
            target.write(number, image, work.metadata(size) if not is_video(output) else {})
            bar.update()
        paths = target.finish(work.metadata(size))
    if not quiet:
        _print_done(output, total, kept, time.monotonic() - started)
    return paths


def _read_ahead(
    work: _Work, missing: Sequence[int], bits: int | None, output: Path
) -> Iterator[tuple[int, FusionInput]]:
    """Passes the frames on; the first one makes the output's folder and may print a warning."""
    if not missing:
        return
    for place, (number, item) in enumerate(work.inputs(missing, bits)):
        if place == 0:
            make_folder(output.parent if is_video(output) else output)
            height, width = item.sources[0].shape[:2]
            line = work.frames.stack_fuser.describe_limit(height, width, str(work.sources[0].path))
            if line and not work.options.quiet:
                tqdm.tqdm.write(line, file=sys.stderr)
        yield number, item


def _print_done(output: Path, total: int, kept: int, seconds: float) -> None:
    if kept == total:
        print(f"{output}: its {total} frames were made before and have not changed")
        return
    speed = f"{total - kept} frames in {seconds:.1f} s, {(total - kept) / seconds:.2f} frames/s"
    print(f"{output} ({speed}){f', beside {kept} that were made before' if kept else ''}")


def _inputs(inputs: Sequence[Path]) -> list[Path]:
    """The sources in what a user names: a single folder holds them as image1, image2, ..."""
    paths = [as_path(path) for path in inputs]
    if len(paths) == 1 and paths[0].is_dir():
        return numbered_folders(paths[0])
    if not 2 <= len(paths) <= MAX_STACK:
        raise UserError(f"{len(paths)} sources: give two to four videos or folders of frames")
    return paths


def _check_output(output: Path, sources: Sequence[FrameSource]) -> None:
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


def _output_times(
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


def _notes(sources: Sequence[FrameSource], output: Path) -> Iterator[str]:
    """What a user should know of the sources."""
    for source in sources:
        video = source.video
        if video is not None and video.audio:
            tracks = f"{video.audio} audio track{'s' if video.audio > 1 else ''}"
            yield f"left out: {tracks} of {source.path}"
    video = sources[0].video
    if video is not None and video.variable and is_video(output):
        yield (
            f"{video.path} shows its frames at uneven times ({float(video.rate):.4g} per second on"
            f" average), which {output} keeps"
        )


def _names(first: FrameSource, pairs: PairedFrames) -> list[str]:
    """File names of the fused frames: those of a folder, or numbers."""
    if first.files:
        return [f"{first.files[number].stem}.png" for number in pairs.numbers[0]]
    width = max(6, len(str(pairs.count)))
    return [f"{number:0{width}d}.png" for number in range(pairs.count)]


def _calibration(
    sources: Sequence[FrameSource], options: SequenceOptions, ranges: SourceRanges
) -> Calibration | None:
    """One warp for the whole sequence: warps of single frames would make the image tremble."""
    if options.align is None and options.align_save is None:
        return None
    if options.resize:
        raise UserError("--resize and --align exclude each other: aligned images have one size")
    model = "auto" if options.align is None else str(options.align)
    if model not in ("auto", *MODELS):
        if options.align_save is not None:
            raise UserError(
                f"--align {model} names a calibration, so there is none to save: give a model "
                f"({', '.join(('auto', *MODELS))}) with --align-save"
            )
        return read_calibration(model)
    stacks = zip(*(source.sample(_ALIGNED_FRAMES) for source in sources), strict=False)

    def read(image: Any, source: int) -> np.ndarray:
        return ranges.read(image, source)

    loaded: list[Sequence[Any]] = [tuple(stack) for stack in stacks]
    calibration = calibrate_stacks(loaded, model, read)
    if options.align_save is not None:
        write_calibration(options.align_save, calibration)
    if not options.quiet:
        where = f" {options.align_save}" if options.align_save else ""
        print(f"calibration{where}: {calibration}")
    return calibration


def _job_digest(
    sources: Sequence[FrameSource],
    fuser: StackFuser,
    instruction: Instruction,
    calibration: Calibration | None,
    options: SequenceOptions,
    output: Path,
) -> str:
    """Tells jobs apart whose frames would differ."""
    region = ""
    if options.region is not None:
        path = as_path(options.region)
        files = list_images(path) if path.is_dir() else [path] if path.is_file() else []
        region = f"{options.region} {[sha256(file) for file in files]} {options.feather}"
    warps = [warp.to_dict() for warp in calibration.warps] if calibration else None
    parts = [
        fuser_digest(fuser),
        [instruction.prompt, instruction.plain, instruction.applied],
        [source.digest() for source in sources],
        [str(source.rate) for source in sources],
        options.pairing,
        str(options.settings),
        str(options.value_range),
        options.depth,
        options.resize,
        json.dumps(warps),
        region,
        pyav().__version__ if is_video(output) else "",
    ]
    return text_digest(json.dumps(parts))
