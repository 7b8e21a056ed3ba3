"""Fuses image files: a pair or a folder of pairs, with one prompt or many."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import (
    IMAGE_SUFFIXES,
    RangeOption,
    SourceRanges,
    list_stacks,
    read_stack,
    write_image,
)
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fuser import Fuser, FusionInput
from ditfuse_jax.sample.instructions import Instruction, make_instruction
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_trained


@dataclasses.dataclass(frozen=True)
class PlannedOutput:
    """An image to write.

    Attributes:
      sources: the files that are fused.
      instruction: the full prompt, and what it asks for.
      path: the file to write.
    """

    sources: tuple[Path, ...]
    instruction: Instruction
    path: Path


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
    resize: bool = False,
    value_range: RangeOption = "auto",
    quiet: bool = False,
) -> list[Path]:
    """Fuses files into files.

    Args:
      inputs: two to four images, or one folder with `image1/`, `image2/`, ... of equal names.
      output: a file for one image with one prompt, else a folder.
      checkpoint: see `load_trained`.
      prompts: sentences or full prompts; none means the standard prompt of `task`.
      task: see `standard_prompt`; decides the tags in front of a plain sentence.
      adjustments: requests beside those of the prompts; see `make_instruction`.
      sampling: sampling settings that differ from the model's own; see `SamplingConfig.override`.
      adapters: adapters to merge into the weights.
      base: the weights under a run's adapters, if they were moved.
      resize: scale images to the size of the first of their stack.
      value_range: which samples of files with more than 8 bits become black and white; see
        `images.SourceRanges`.  All files of a source share the range.
      quiet: print nothing.

    Returns:
      The paths of the written files.

    Raises:
      UserError: unreadable or unequal images, a bad prompt, an unwritable output.
    """
    trained = load_trained(checkpoint, adapters, base)
    config = trained.sampling.override(sampling or {})
    fuser = Fuser(trained, config)
    outputs = plan_outputs(inputs, output, prompts, task, config, adjustments)
    for planned in outputs:
        fuser.check(planned.instruction.prompt, len(planned.sources))
    if not quiet:
        for instruction in dict.fromkeys(planned.instruction for planned in outputs):
            if instruction.understood is not None:
                print(instruction)
    ranges = SourceRanges(
        [planned.sources for planned in outputs],
        value_range,
        one_camera=task in ONE_CAMERA_TASKS,
        quiet=quiet,
    )
    images = _read(outputs, resize, ranges)
    images = itertools.chain(
        [next(images)], images
    )  # fails on a damaged first stack before a folder is made
    for folder in {planned.path.parent for planned in outputs}:
        make_folder(folder)
    started, written = time.monotonic(), []
    with tqdm.tqdm(total=len(outputs), unit="img", desc="fusing", disable=quiet) as bar:
        for done in fuser.fuse_iter(images):
            for number, image in done.items():
                planned = outputs[number]
                write_image(planned.path, image, image_metadata(planned, config, trained, ranges))
                written.append(planned.path)
                bar.update()
    if not quiet:
        where = written[0] if len(written) == 1 else f"{len(written)} images in {output}"
        print(f"{where} ({time.monotonic() - started:.1f} s)")
    return sorted(written)


def plan_outputs(
    inputs: Sequence[Path],
    output: Path,
    prompts: Sequence[str],
    task: str,
    sampling: SamplingConfig | None = None,
    adjustments: Sequence[Request] = (),
) -> list[PlannedOutput]:
    """Returns the files to write and what each is made from; see `fuse`.

    With several prompts the files are numbered: `name-1.png`, `name-2.png`, ...

    Raises:
      UserError: the inputs do not belong together, the task is unknown, a prompt is bad, or the
        output is not an image file or is one of the inputs.
    """
    inputs = [as_path(p) for p in inputs]
    output = as_path(output)
    if len(inputs) == 1:
        if not inputs[0].is_dir():
            raise UserError(
                f"{inputs[0]}: give two images, or a folder with image1/ and image2/ inside"
            )
        stacks = [(stem, tuple(paths)) for stem, paths in list_stacks(inputs[0])]
        as_folder = True
    else:
        if len(inputs) > 4:
            raise UserError(f"{len(inputs)} images: at most four can be fused at once")
        stacks = [(inputs[0].stem, tuple(inputs))]
        as_folder = len(prompts) > 1 or output.is_dir()
    count = len(stacks[0][1])
    sampling = sampling or SamplingConfig()
    texts = [
        make_instruction(text, count, sampling, task, adjustments) for text in prompts or [None]
    ]
    outputs = []
    for stem, paths in stacks:
        for number, instruction in enumerate(texts, start=1):
            name = stem if len(texts) == 1 else f"{stem}-{number}"
            path = output / f"{name}.png" if as_folder else output
            outputs.append(PlannedOutput(paths, instruction, path))
    if as_folder and output.is_file():
        raise UserError(f"{output} is a file: several images need a folder as output")
    if not as_folder and output.suffix.lower() not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{output}: no image format has the suffix {output.suffix!r} ({known})")
    for planned in outputs:
        existing = [source for source in planned.sources if source.exists()]
        if planned.path.exists() and any(map(planned.path.samefile, existing)):
            raise UserError(f"{planned.path} is one of the images to fuse: choose another output")
    return outputs


def read_prompts(path: Path) -> list[str]:
    """Reads a prompt file: one prompt per line; empty lines and lines starting with # are skipped.

    Raises:
      UserError: the file is missing, not UTF-8 or without a prompt.
    """
    try:
        lines = as_path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}): save the prompts as UTF-8 text"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read the prompts in {path}: {error.strerror}") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise UserError(f"{path} holds no prompt: write one per line")
    return prompts


def _read(
    outputs: Sequence[PlannedOutput], resize: bool, ranges: SourceRanges
) -> Iterator[tuple[int, FusionInput]]:
    for number, planned in enumerate(outputs):
        yield (
            number,
            FusionInput(
                read_stack(planned.sources, resize=resize, ranges=ranges),
                planned.instruction.prompt,
            ),
        )


def image_metadata(
    planned: PlannedOutput,
    sampling: SamplingConfig,
    trained: TrainedModel,
    ranges: SourceRanges | None = None,
) -> dict[str, str]:
    """Returns what a written image records: prompt, sources, model and sampling settings."""
    stretched = {} if ranges is None else ranges.chosen
    instruction = planned.instruction
    understood = {}
    if instruction.understood is not None:
        understood = {"understood": instruction.understood}
        if instruction.left_out:
            understood["left_out"] = instruction.left_out
    return {
        "Software": "ditfuse_jax",
        "prompt": planned.instruction.prompt,
        **understood,
        "sources": ", ".join(path.name for path in planned.sources),
        **{f"range of image {k + 1}": str(stretched[k]) for k in sorted(stretched)},
        "checkpoint": trained.name,
        **{name: str(value) for name, value in sampling.to_dict().items()},
    }
