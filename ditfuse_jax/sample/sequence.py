"""Fuses sequences: videos and folders of frames, into a video or a folder.

All frames share the prompt, the noise, the ranges of their samples and the warp between the
cameras, so that nothing but the sources changes from frame to frame.  Frames are read, fused and
written one after the other.
"""

import contextlib
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

from ditfuse_jax.align.calibration import Calibration
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, sha256
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import RangeOption, SourceRanges, numbered_folders
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
from ditfuse_jax.images.video import is_video
from ditfuse_jax.images.video_pixels import pyav
from ditfuse_jax.images.video_writer import is_deep_video
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fingerprints import fuser_digest, text_digest
from ditfuse_jax.sample.fixed_roles import fix_roles
from ditfuse_jax.sample.fused import image_metadata
from ditfuse_jax.sample.fusion_input import FusionInput, marks_classes
from ditfuse_jax.sample.instructions import Instruction, make_instruction
from ditfuse_jax.sample.region import Regions
from ditfuse_jax.sample.sequence_calibration import (
    calibration_key,
    sample_pairs,
    sequence_calibration,
)
from ditfuse_jax.sample.sequence_fuser import SequenceFuser, SequenceSettings
from ditfuse_jax.sample.sequence_output import FrameFolder, Opened, SequenceOutput, VideoFile
from ditfuse_jax.sample.sequence_plan import (
    check_output,
    choose_bits,
    frame_names,
    holds_deep_frames,
    output_times,
    source_notes,
)
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.stack_reader import StackReader
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS
from ditfuse_jax.sample.trained import WeightedAdapter, load_trained

_FRAMES_FOR_ROLES = 8  # by which it is decided which source a request means
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
    reuse_given: bool = False
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
    check_output(output, sources)
    pairs = pair_frames(sources, options.pairing)
    times, time_base = output_times(sources, pairs, output)
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
        regions.check_output(output)
        regions.check(instruction, len(sources))
    several = bool(instruction.requests) or marks_classes(instruction.prompt)
    plain = regions is None and not several  # else there may be other prompts and sources
    if options.reuse_given and options.settings.reuse > 1:
        _check_reuse(plain, config)
    if not options.quiet:
        if instruction.understood is not None:
            print(instruction)
        for note in (*pairs.notes, *source_notes(sources, output)):
            print(note, file=sys.stderr)
    measured = measure_frames(sources)
    bits = choose_bits(sources, measured, output, options.depth)
    ranges = SourceRanges(
        [tuple(source.path for source in sources)],
        options.value_range,
        one_camera=options.task in ONE_CAMERA_TASKS,
        quiet=options.quiet,
        measured=measured,
    )
    if options.resize and (options.align is not None or options.align_save is not None):
        raise UserError("--resize and --align exclude each other: aligned images have one size")
    calibration = sequence_calibration(
        sources,
        pairs,
        ranges,
        align=options.align,
        align_save=options.align_save,
        quiet=options.quiet,
    )
    reader = StackReader(
        [],
        ranges,
        resize=options.resize,
        align=options.align or ("auto" if calibration else None),
        calibration=calibration,
        quiet=True,
    )
    requests, roles = fix_roles(
        instruction.requests, _sampled_stacks(sources, pairs, reader, instruction.requests)
    )
    prompts = [instruction.prompt] if plain else []
    frames = SequenceFuser(trained, config, prompts, len(sources), options.settings)
    size = sources[0].size if is_video(output) else None
    work = _Work(
        sources,
        pairs,
        frames,
        instruction,
        requests,
        roles,
        reader,
        ranges,
        regions,
        options,
        config,
        size,
        bits,
    )
    job = _job_digest(sources, fuser, instruction, calibration, options, output, bits)
    # Last: what a video locks is released by `_run`.
    target: SequenceOutput
    if is_video(output):
        video = sources[0].video
        aspect = Fraction(1) if video is None else video.pixel_aspect
        target = VideoFile(output, job, times, time_base, aspect, quiet=options.quiet)
    else:
        target = FrameFolder(output, frame_names(sources[0], pairs), job)
    with Opened(target):
        return _run(work, target, output)


@dataclasses.dataclass
class _Work:
    """All that the frames are made with; `size` is the one that all must have, if any.

    All fused frames have the same number of `bits`.  `requests` are those of the instruction, which
    name sources by their places, and `roles` says which these are.
    """

    sources: Sequence[FrameSource]
    pairs: PairedFrames
    frames: SequenceFuser
    instruction: Instruction
    requests: tuple[Request, ...]
    roles: str
    reader: StackReader
    ranges: SourceRanges
    regions: Regions | None
    options: SequenceOptions
    config: SamplingConfig
    size: tuple[int, int] | None
    bits: int

    def inputs(self, missing: Sequence[int], output: Path) -> Iterator[tuple[int, FusionInput]]:
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
            if self.bits == 8 and self.options.depth is None and holds_deep_frames(output):
                deep = [image for image in stack if image.samples.values.dtype != np.uint8]
                if deep:
                    raise UserError(
                        f"{deep[0]}: has more than 8 bits per channel, unlike the frames by which "
                        f"the depth of {output} was chosen: give --depth 16, or 8"
                    )
            name = Path(stack[0].name).stem if self.sources[0].files else f"{number:06d}"
            item = self.instruction.fusion_input(self.reader.read(stack), self.bits, name)
            item = dataclasses.replace(item, applied=self.requests)
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
            roles=self.roles,
        )
        settings = self.config.to_dict() | dataclasses.asdict(self.options.settings)
        return metadata | {name: str(value) for name, value in settings.items()}


def _run(work: _Work, target: SequenceOutput, output: Path) -> list[Path]:
    quiet, total = work.options.quiet, work.pairs.count
    missing = [number for number in range(total) if not target.done(number)]
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
    with bar:
        for number, image in work.frames(_read_ahead(work, missing, output)):
            size = image.shape[0], image.shape[1]
            target.write(number, image, work.metadata(size) if not is_video(output) else {})
            bar.update()
        paths = target.finish(work.metadata(size))
    if not quiet:
        _print_done(output, total, kept, time.monotonic() - started)
    return paths


def _read_ahead(
    work: _Work, missing: Sequence[int], output: Path
) -> Iterator[tuple[int, FusionInput]]:
    """Passes the frames on; the first one makes the output's folder and may print a warning."""
    if not missing:
        return
    for place, (number, item) in enumerate(work.inputs(missing, output)):
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


def _sampled_stacks(
    sources: Sequence[FrameSource],
    pairs: PairedFrames,
    reader: StackReader,
    requests: Sequence[Request],
) -> Iterator[tuple[np.ndarray, ...]]:
    """Reads some frames spread over the sequence, by which roles are decided, if any is named."""
    if not any(one.role for one in requests):
        return
    for stack in sample_pairs(sources, pairs, _FRAMES_FOR_ROLES):
        with contextlib.suppress(UserError):  # named when the frame is fused
            yield reader.read(stack)


def _check_reuse(plain: bool, config: SamplingConfig) -> None:
    """Checks that what the user set with --reuse has an effect.

    Raises:
      UserError: every frame is computed afresh.
    """
    why = None
    if not plain:
        why = "a region, with requests that image operations do, or where classes are marked"
    elif config.batch_size != 1:
        why = f"--batch-size {config.batch_size}"
    if why:
        raise UserError(f"--reuse has no effect with {why}: leave it out")


def _job_digest(
    sources: Sequence[FrameSource],
    fuser: StackFuser,
    instruction: Instruction,
    calibration: Calibration | None,
    options: SequenceOptions,
    output: Path,
    bits: int,
) -> str:
    """Tells jobs apart whose frames would differ."""
    region = ""
    if options.region is not None:
        path = as_path(options.region)
        files = list_images(path) if path.is_dir() else [path] if path.is_file() else []
        region = f"{options.region} {[sha256(file) for file in files]} {options.feather}"
    parts = [
        fuser_digest(fuser),
        [instruction.prompt, instruction.plain, instruction.applied],
        [source.digest() for source in sources],
        [str(source.rate) for source in sources],
        options.pairing,
        str(options.settings),
        str(options.value_range),
        bits,
        options.resize,
        calibration_key(calibration) if calibration else "",
        region,
        pyav().__version__ if is_video(output) else "",
    ]
    return text_digest(json.dumps(parts))
