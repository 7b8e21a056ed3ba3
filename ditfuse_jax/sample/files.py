"""Fuses image files: a pair or folders of pairs, with one prompt or many."""

import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError, is_temporary, one_line
from ditfuse_jax.files import check_folder, make_folder
from ditfuse_jax.images import (
    RangeOption,
    SourceRanges,
    is_deep_format,
    write_image,
)
from ditfuse_jax.paths import as_path, is_remote, is_video
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fingerprints import (
    KEY,
    fuser_digest,
    has_fingerprint,
    pixels_digest,
    text_digest,
)
from ditfuse_jax.sample.folder_job import find_inputs, print_left_out, raise_failures
from ditfuse_jax.sample.fused import image_metadata
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.planned_outputs import PlannedOutput, check_not_written, plan_outputs
from ditfuse_jax.sample.refinement import check_refine
from ditfuse_jax.sample.region import Regions
from ditfuse_jax.sample.source_roles import GUESS
from ditfuse_jax.sample.stack_fuser import StackFuser, with_size_warning
from ditfuse_jax.sample.stack_reader import StackReader
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS
from ditfuse_jax.sample.trained import WeightedAdapter, load_trained
from ditfuse_jax.sample.watched_outputs import WatchedOutputs


def fuse(
    inputs: Sequence[Path],
    output: Path,
    *,
    checkpoint: Path,
    prompts: Sequence[str] = (),
    task: str = "fuse",
    adjustments: Sequence[Request] = (),
    sampling: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quantize: str | None = None,
    resize: bool = False,
    value_range: RangeOption = "auto",
    recursive: bool = False,
    depth: int | None = None,
    align: str | Path | None = None,
    align_save: Path | None = None,
    region: str | Path | None = None,
    feather: float | None = None,
    fps: float | None = None,
    pairing: str = "number",
    reuse: int | None = None,
    smoothing: float | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Fuses files into files.

    If an input or the output is a video, the inputs are sequences; see `sample.sequence`.

    Of folders, images that cannot be fused are skipped and listed at the end.  Files that the same
    model and settings have already made from the same pixels are kept: an interrupted call is
    continued by the same call.

    Args:
      inputs: two to four images; two to four folders of images with equal names; or one folder with
        such folders `image1/`, `image2/`, ...; or videos, and folders of frames.
      output: a file for one image with one prompt, a video, else a folder.
      checkpoint: see `load_trained`.
      prompts: sentences or full prompts; none means the standard prompt of `task`.
      task: see `standard_prompt`; decides the tags in front of a plain sentence.
      adjustments: requests beside those of the prompts; see `make_instruction`.
      sampling: sampling settings that differ from the model's own; see `SamplingConfig.override`.
      adapters: adapters to merge into the weights.
      base: the weights under a run's adapters, if they were moved.
      quantize: how to quantise the model; see `load_trained`.
      resize: scale images to the size of the first of their stack.
      value_range: which samples of files with more than 8 bits become black and white; see
        `images.SourceRanges`.  All files of a source share the range.
      recursive: search folders inside the folders too.
      depth: bits per channel of the written images, 8 or 16; by default 16 if a source has more
        than 8 and the format (PNG, TIFF) holds them.
      align: bring images onto the pixels of the first of their stack and cut off what any lacks,
        by a warp of this model (see `estimate_alignment`; "auto" is the simplest that explains
        them) or of a calibration file.
      align_save: estimate one warp over all stacks, use it for all, and save it in this file.
      region: where the request applies: a mask of the first image's size, white there; a folder
        of masks with the names of the stacks; or a class that the model marks.  Outside, an
        image is to the bit the fusion without the request; a frame of a sequence is it by rounding,
        and by what `reuse` and `smoothing` change.
      feather: width of the region's border in pixels; by default 2 % of the shorter side.
      fps: of sequences: frames per second of folders.
      pairing: of sequences: which frames belong together; see `images.frames.pair_frames`.
      reuse, smoothing: of sequences; see `SequenceSettings`.
      quiet: no progress bar, and print only failures.

    Returns:
      The paths of the fused images, those that were kept included.

    Raises:
      UserError: unreadable or unequal images, a bad prompt, an unwritable output, images that
        could not be aligned.
      IncompleteError: some images of folders could not be fused; the others are written.
    """
    if depth not in (None, 8, 16):
        raise UserError(f"depth must be 8 or 16, not {depth}")
    if feather is not None and region is None:
        raise UserError("--feather is the width of a region's border: give --region too")
    if any(map(is_video, (*inputs, output))):
        from ditfuse_jax.sample.sequence import fuse_sequence
        from ditfuse_jax.sample.sequence_fuser import SequenceSettings
        from ditfuse_jax.sample.sequence_work import SequenceOptions

        given = {"reuse": reuse, "smoothing": smoothing}
        used: dict[str, Any] = {name: x for name, x in given.items() if x is not None}
        if recursive:
            raise UserError("--recursive has no effect on sequences: leave it out")
        options = SequenceOptions(
            prompts=prompts,
            task=task,
            adjustments=adjustments,
            sampling=sampling or {},
            resize=resize,
            value_range=value_range,
            depth=depth,
            align=align,
            align_save=align_save,
            region=region,
            feather=feather,
            fps=fps,
            pairing=pairing,
            settings=SequenceSettings(**used),
            reuse_given=reuse is not None,
            quiet=quiet,
        )
        return fuse_sequence(inputs, output, checkpoint, adapters, base, quantize, options)
    if pairing != "number" or not (fps is reuse is smoothing is None):
        raise UserError(
            "--fps, --pairing, --reuse and --smoothing are for videos: name a video as input or"
            " output"
        )
    job = find_inputs(inputs, recursive=recursive)
    trained = load_trained(checkpoint, adapters, base, quantize=quantize)
    config = trained.sampling.override(sampling or {})
    fuser = StackFuser(trained, config)
    outputs = plan_outputs(job, output, prompts, task, config, adjustments)
    check_refine(
        sampling or {}, config, [planned.instruction for planned in outputs], region is not None
    )
    if align_save is not None:
        check_not_written(as_path(align_save), outputs)
    regions = None if region is None else Regions(region, feather, config, task)
    if regions is not None:
        regions.check_outputs([output, *(planned.path for planned in outputs)])
    for instruction, count in {(p.instruction, len(p.sources)): None for p in outputs}:
        fuser.check(instruction.prompt, count)
        if regions is not None:
            regions.check(instruction, count)
    if depth == 16 and not is_deep_format(outputs[0].path):
        raise UserError(f"{outputs[0].path}: this format has 8 bits: use .png or .tif for 16")
    if not quiet:
        for instruction in dict.fromkeys(planned.instruction for planned in outputs):
            if instruction.understood is not None:
                print(instruction)
        print_left_out(job.found)
    ranges = SourceRanges(
        [planned.sources for planned in outputs],
        value_range,
        one_camera=task in ONE_CAMERA_TASKS,
        quiet=quiet,
    )
    stacks = list(dict.fromkeys(planned.sources for planned in outputs))
    reader = StackReader(
        stacks, ranges, resize=resize, align=align, align_save=align_save, quiet=quiet
    )
    alignments: dict[int, str] = {}
    roles: dict[int, str] = {}
    notes: dict[int, str] = {}
    guessed = 0
    failures = dict(job.found.unusable)
    kept: list[Path] = []
    fingerprints: dict[int, str] = {}
    watched = WatchedOutputs(planned.path for planned in outputs if job.folders)
    # What fails at once leaves no bar above its message.
    bar = tqdm.tqdm(total=len(outputs), unit="img", desc="fusing", delay=0.5, disable=quiet)
    model = fuser_digest(fuser) if job.folders else ""

    def read() -> Iterator[tuple[int, FusionInput]]:
        nonlocal guessed
        for number, (planned, sources) in enumerate(_read(outputs, reader)):
            prompt = planned.instruction.prompt
            bits = depth or (None if is_deep_format(planned.path) else 8)
            try:
                if isinstance(sources, UserError):
                    raise sources
                item = planned.instruction.fusion_input(sources, bits, planned.name)
                if regions is not None:
                    item = regions.limit(item, planned.name, reader.cut)
            except UserError as error:
                if not job.folders or is_temporary(error):
                    raise
                failures[planned.name] = str(error)
                bar.update()
                continue
            notes[number] = reader.notes
            if reader.alignment:
                alignments[number] = reader.alignment
            if job.folders:
                digest = f"{model} {prompt} {depth} {pixels_digest(*sources)} {item.digest}"
                fingerprints[number] = text_digest(digest.strip())
                if has_fingerprint(planned.path, fingerprints[number]):
                    kept.append(planned.path)
                    bar.update()
                    continue
            roles[number] = item.source_roles
            guessed += GUESS in roles[number]
            yield number, item

    images = with_size_warning(read(), fuser, outputs[0].sources[0].name, quiet)
    started, written = time.monotonic(), []
    with bar:
        first = list(itertools.islice(images, 1))  # a damaged pair fails before a folder is made
        for folder in {planned.path.parent for planned in outputs} if first else ():
            (make_folder if is_remote(folder) else check_folder)(folder)
        for done in fuser.fuse_iter(itertools.chain(first, images)):
            for number, image in done.items():
                planned = outputs[number]
                metadata = image_metadata(
                    planned.instruction,
                    planned.sources,
                    fuser,
                    ranges=ranges.chosen,
                    alignment=alignments.pop(number, None),
                    region=None if regions is None else regions.description,
                    computed=fuser.computed_size(*image.shape[:2]),
                    roles=roles.pop(number),
                    notes=notes.pop(number),
                )
                if number in fingerprints:
                    metadata[KEY] = fingerprints.pop(number)
                if KEY in metadata and watched.is_made(planned.path, metadata[KEY]):
                    kept.append(planned.path)
                else:
                    write_image(planned.path, image, metadata)
                    watched.written(planned.path, metadata.get(KEY))
                    written.append(planned.path)
                bar.update()
    if unused := ranges.without_effect():
        print(f"warning: {unused}", file=sys.stderr)
    watched.check()
    if guessed > 1:
        print(
            f"warning: in {guessed} images it was guessed which one a request means: see `source"
            " roles` in their metadata",
            file=sys.stderr,
        )
    if not quiet:
        _print_done(written, kept, output, time.monotonic() - started)
    raise_failures(failures, len(job.found.stacks) + len(job.found.unusable))
    return sorted([*written, *kept])


def _read(
    outputs: Sequence[PlannedOutput], reader: StackReader
) -> Iterator[tuple[PlannedOutput, tuple[np.ndarray, ...] | UserError]]:
    """Reads the images of each output, or gives the error that says why they cannot be fused."""
    paths, images = None, ()
    for planned in outputs:
        if planned.sources != paths:  # several prompts for one stack
            paths = planned.sources
            try:
                images = reader.read(paths)
            except UserError as error:
                images = error
        yield planned, images


def _print_done(
    written: Sequence[Path], kept: Sequence[Path], output: Path, seconds: float
) -> None:
    if not written and not kept:
        return
    output_name = one_line(output)
    where = one_line(written[0]) if len(written) == 1 else f"{len(written)} images in {output_name}"
    if not kept:
        print(f"{where} ({seconds:.1f} s)")
    elif not written:
        print(f"{len(kept)} images in {output_name} were made before and have not changed")
    else:
        print(f"{where} ({seconds:.1f} s), beside {len(kept)} that were made before")
