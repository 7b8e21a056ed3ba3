"""Fuses sequences: videos and folders of frames, into a video or a folder.

All frames share the prompt, the noise, the ranges of their samples and the warp between the
cameras, so that nothing but the sources changes from frame to frame.  Frames are read, fused and
written at the same time, those of more than two megapixels one after the other.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ditfuse_jax.align.calibration import Calibration
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import check_writable, sha256
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import SourceRanges, numbered_folders
from ditfuse_jax.images.decode import list_images
from ditfuse_jax.images.frames import (
    FrameSource,
    PairedFrames,
    measure_frames,
    open_sources,
    pair_frames,
)
from ditfuse_jax.images.pairs import MAX_STACK
from ditfuse_jax.images.video_pixels import pyav
from ditfuse_jax.images.video_writer import is_deep_video
from ditfuse_jax.paths import as_path, is_video
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fingerprints import fuser_digest, text_digest
from ditfuse_jax.sample.fixed_roles import decide_roles, named_roles
from ditfuse_jax.sample.fusion_input import marks_classes
from ditfuse_jax.sample.instructions import Instruction, make_instruction
from ditfuse_jax.sample.refinement import check_refine
from ditfuse_jax.sample.region import Regions
from ditfuse_jax.sample.sequence_calibration import (
    calibration_key,
    sample_pairs,
    sequence_calibration,
)
from ditfuse_jax.sample.sequence_fuser import SequenceFuser
from ditfuse_jax.sample.sequence_output import FrameFolder, Opened, SequenceOutput, VideoFile
from ditfuse_jax.sample.sequence_plan import (
    check_output,
    choose_bits,
    frame_names,
    output_times,
    source_notes,
)
from ditfuse_jax.sample.sequence_sampler import MAX_PIXELS
from ditfuse_jax.sample.sequence_work import SequenceOptions, SequenceWork, run_sequence
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.stack_reader import StackReader
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS
from ditfuse_jax.sample.trained import WeightedAdapter, load_trained
from ditfuse_jax.working_memory import return_working_memory

_FRAMES_FOR_ROLES = 8  # by which it is decided which source a request means


def fuse_sequence(
    inputs: Sequence[Path],
    output: Path,
    checkpoint: Path,
    adapters: Sequence[WeightedAdapter],
    base: Path | None,
    quantize: str | None,
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
    check_writable(output.parent if is_video(output) else output)
    trained = load_trained(checkpoint, adapters, base, quantize=quantize)
    config = trained.sampling.override(options.sampling)
    fuser = StackFuser(trained, config)
    text = options.prompts[0] if options.prompts else None
    instruction = make_instruction(
        text, len(sources), config, options.task, list(options.adjustments)
    )
    check_refine(options.sampling, config, [instruction], options.region is not None)
    fuser.check(instruction.prompt, len(sources))
    regions = None
    if options.region is not None:
        regions = Regions(options.region, options.feather, config, options.task)
        frames = [] if is_video(output) else frame_names(sources[0], pairs)
        regions.check_outputs([output, *(output / name for name in frames)])
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
    roles = decide_roles(
        instruction.requests, _sampled_stacks(sources, pairs, reader, instruction.requests)
    )
    prompts = [instruction.prompt] if plain else []
    small = all(math.prod(source.size) <= MAX_PIXELS for source in sources)
    if not small:  # else memory is scarcer than time
        return_working_memory()
    frames = SequenceFuser(trained, config, prompts, len(sources), options.settings, ahead=small)
    size = sources[0].size if is_video(output) else None
    work = SequenceWork(
        sources=sources,
        pairs=pairs,
        frames=frames,
        instruction=instruction,
        roles=roles,
        reader=reader,
        ranges=ranges,
        regions=regions,
        options=options,
        config=config,
        size=size,
        bits=bits,
    )
    job = _job_digest(sources, fuser, instruction, calibration, options, output, bits)
    # Last: what a video locks is released by `run_sequence`.
    target: SequenceOutput
    if is_video(output):
        video = sources[0].video
        aspect = Fraction(1) if video is None else video.pixel_aspect
        target = VideoFile(output, job, times, time_base, aspect, quiet=options.quiet)
    else:
        target = FrameFolder(output, frame_names(sources[0], pairs), job)
    with Opened(target):
        return run_sequence(work, target, output)


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
    if not named_roles(requests):
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
