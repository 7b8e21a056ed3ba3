"""A stack that is read, checked and ready to be fused; and fusing several of them together."""

import dataclasses
import functools
import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.align import ALIGNMENTS, calibrate_stacks
from ditfuse_jax.checks import check_type
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import IMAGE_SUFFIXES, LoadedImage, RangeOption, SourceRanges, load_image
from ditfuse_jax.images.pairs import MAX_STACK
from ditfuse_jax.prompts.requests import Request, parse_adjustment
from ditfuse_jax.sample.fused import Fused, image_metadata
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.instructions import Instruction, make_instruction
from ditfuse_jax.sample.region import Regions
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.stack_reader import StackReader
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS

Adjustments = Mapping[str, int] | Sequence[str | Request] | str


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """The arguments of a call that are no sampling settings; see `Fuser.__call__`."""

    task: str = "fuse"
    adjust: Adjustments = ()
    resize: bool = False
    value_range: RangeOption = "auto"
    align: str | os.PathLike[str] | None = None
    depth: int | None = None
    region: Any = None
    feather: float | None = None

    def __post_init__(self) -> None:
        path = str | os.PathLike
        check_type("resize", self.resize, bool, "True or False")
        check_type("align", self.align, path | None, "a model's name or a calibration's file")
        check_type("feather", self.feather, numbers.Real | None, "a number of pixels")
        ranges = "auto, another name, two numbers, or a list of these"
        check_type("value_range", self.value_range, Sequence | np.ndarray, ranges)
        pairs = "pairs such as {'brightness': 1}"
        check_type("adjust", self.adjust, Mapping | Sequence, pairs)
        if self.depth not in (None, 8, 16):
            raise UserError(f"depth must be 8 or 16, not {self.depth}")
        if self.feather is not None and self.region is None:
            raise UserError("feather is the width of a region's border: give region too")

    @classmethod
    def split(cls, given: Mapping[str, Any]) -> tuple["Options", dict[str, Any]]:
        """Returns the options in keyword arguments, and the rest: sampling settings."""
        names = {field.name for field in dataclasses.fields(cls)}
        own = {name: value for name, value in given.items() if name in names}
        return cls(**own), {name: value for name, value in given.items() if name not in names}


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """What one fused image is made from.

    Attributes:
      sampler: the model with its settings.
      input: the images and the prompt.
      instruction: the prompt, and what it was understood as.
      metadata: what the fused image records.
    """

    sampler: StackFuser
    input: FusionInput
    instruction: Instruction
    metadata: dict[str, str]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the fused image."""
        height, width = self.input.sources[0].shape[:2]
        return height, width

    @functools.cached_property
    def batch_key(self) -> tuple:
        """Stacks with equal keys can be fused in one batch; computed once."""
        return self.sampler.sampling, *self.sampler.batch_key(self.input)

    def fused(self, image: np.ndarray) -> Fused:
        """Returns the fused image (H, W, 3) with what is known of it."""
        return Fused(
            image,
            tuple(self.input.sources),
            self.instruction.prompt,
            self.instruction.understood,
            self.instruction.left_out,
            self.instruction.applied,
            self.sampler.sampling.to_dict(),
            self.metadata,
        )


class Preparer:
    """Prepares stacks whose sources share the ranges of their samples."""

    def __init__(
        self,
        sampler: StackFuser,
        options: Options,
        measured: Sequence[Sequence[LoadedImage]],
        *,
        one_warp: bool = False,
    ):
        """Creates a preparer.

        Args:
          sampler: the model with its settings.
          options: of the call.
          measured: the stacks by which the ranges are chosen.
          one_warp: align all stacks by the warps between the images of those.

        Raises:
          UserError: bad or contradicting options, or no warp is sure.
        """
        self._sampler, self._options = sampler, options
        one_camera = options.task in ONE_CAMERA_TASKS
        self._ranges = SourceRanges(
            measured, options.value_range, one_camera=one_camera, quiet=True
        )
        align = options.align if options.align is None else os.fspath(options.align)
        calibration = None
        if one_warp and align in ALIGNMENTS:
            calibration = calibrate_stacks(measured, align, self._ranges.read)
        self._reader = StackReader(
            [],
            self._ranges,
            resize=options.resize,
            align=align,
            calibration=calibration,
            quiet=True,
        )
        self._regions = None
        if options.region is not None:
            self._regions = Regions(options.region, options.feather, sampler.sampling, options.task)

    def __call__(self, stack: tuple[LoadedImage, ...], prompt: str | None) -> Prepared:
        """Prepares a stack.

        Raises:
          UserError: see `Fuser.__call__`.
        """
        sampler, options = self._sampler, self._options
        instruction = make_instruction(
            prompt, len(stack), sampler.sampling, options.task, adjustments(options.adjust)
        )
        sampler.check(instruction.prompt, len(stack))
        if self._regions is not None:
            self._regions.check(instruction, len(stack))
        images = self._reader.read(stack)
        name = Path(stack[0].name).stem
        item = instruction.fusion_input(images, options.depth, name)
        if self._regions is not None:
            item = self._regions.limit(item, name, self._reader.cut)
        metadata = image_metadata(
            instruction,
            stack,
            sampler,
            ranges=self._ranges.chosen,
            alignment=self._reader.alignment,
            region=None if self._regions is None else self._regions.description,
            computed=sampler.computed_size(*images[0].shape[:2]),
            roles=item.source_roles,
            notes="; ".join(filter(None, (self._reader.notes, self._ranges.without_effect(stack)))),
        )
        return Prepared(sampler, item, instruction, metadata)


def run(prepared: Sequence[Prepared], sampler: StackFuser | None = None) -> list[Fused]:
    """Fuses stacks that were prepared for one sampler, those of one size together.

    `sampler`: instead of that one, with another batch size.
    """
    if not prepared:
        return []
    images: dict[int, np.ndarray] = {}
    sampler = sampler or prepared[0].sampler
    for done in sampler.fuse_iter(enumerate(item.input for item in prepared)):
        images.update(done)
    return [item.fused(images[number]) for number, item in enumerate(prepared)]


def load_stack(images: Sequence[Any], where: str = "") -> tuple[LoadedImage, ...]:
    """Loads the images of a stack; see `images.load_image`.

    `where`: the start of the images' names, such as `frame 3, `.

    Raises:
      UserError: fewer than two or more than four images, or one that cannot be loaded.
    """
    if not 2 <= len(images) <= MAX_STACK:
        raise UserError(f"{where}{len(images)} images: give two to four of one scene")
    return tuple(load_image(image, f"{where}image {k}") for k, image in enumerate(images, start=1))


def split_arguments(
    arguments: tuple[Any, ...], prompt: str | None
) -> tuple[tuple[Any, ...], str | None]:
    """Splits positional arguments into images and a sentence at their end.

    A text at the end is a sentence unless it ends like the name of an image file.

    Raises:
      UserError: there is a sentence at the end and another one as `prompt`; or a single image.
    """
    last = arguments[-1] if arguments else None
    if not isinstance(last, str) or last.lower().endswith(tuple(IMAGE_SUFFIXES)):
        return arguments, prompt
    if prompt is not None:
        raise UserError(f"two sentences, {last!r} and {prompt!r}: give one")
    if len(arguments) < 3:
        raise UserError(
            f"{len(arguments) - 1} images: give two to four, and then a sentence ({last!r} was "
            "taken as the sentence, since it does not end like an image file)"
        )
    return arguments[:-1], last


def adjustments(given: Adjustments) -> tuple[Request, ...]:
    """Reads `{"brightness": 1}`, `["brightness=+1"]` or `"brightness=+1"`.

    Raises:
      UserError: see `parse_adjustment`.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        given = [f"{name}={level}" for name, level in given.items()]
    return tuple(x if isinstance(x, Request) else parse_adjustment(x) for x in given)
