"""The frames of a sequence: read, fused and written into their output, in order."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import RangeOption, SourceRanges
from ditfuse_jax.images.frames import (
    FrameSource,
    PairedFrames,
    read_pairs,
)
from ditfuse_jax.paths import is_video
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fused import image_metadata
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.instructions import Instruction
from ditfuse_jax.sample.region import Regions
from ditfuse_jax.sample.sequence_fuser import SequenceFuser, SequenceSettings
from ditfuse_jax.sample.sequence_output import SequenceOutput
from ditfuse_jax.sample.sequence_plan import (
    holds_deep_frames,
)
from ditfuse_jax.sample.source_roles import FoundRoles, describe_roles
from ditfuse_jax.sample.stack_reader import StackReader

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


@dataclasses.dataclass(kw_only=True)
class SequenceWork:
    """All that the frames are made with; `size` is the one that all must have, if any.

    All fused frames have the same number of `bits`.  `roles` says which source a request means.
    """

    sources: Sequence[FrameSource]
    pairs: PairedFrames
    frames: SequenceFuser
    instruction: Instruction
    roles: FoundRoles
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
            item = dataclasses.replace(item, roles=self.roles)
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
            roles=describe_roles(self.roles, [], self.roles),
        )
        settings = self.config.to_dict() | dataclasses.asdict(self.options.settings)
        return metadata | {name: str(value) for name, value in settings.items()}


def run_sequence(work: SequenceWork, target: SequenceOutput, output: Path) -> list[Path]:
    """Fuses the frames that the output lacks; returns the paths of the output."""
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
    with bar, contextlib.closing(work.frames(_inputs(work, missing, output))) as fused:
        for number, image in fused:
            size = image.shape[0], image.shape[1]
            target.write(number, image, work.metadata(size) if not is_video(output) else {})
            bar.update()
        paths = target.finish(work.metadata(size))
    if missing and (unused := work.ranges.without_effect()):
        print(f"warning: {unused}", file=sys.stderr)
    if not quiet:
        _print_done(output, total, kept, time.monotonic() - started)
    return paths


def _inputs(
    work: SequenceWork, missing: Sequence[int], output: Path
) -> Iterator[tuple[int, FusionInput]]:
    """Passes the frames on; the first one may print a warning.

    They may be read in a thread that nobody waits for: nothing is written here.
    """
    if not missing:
        return
    for place, (number, item) in enumerate(work.inputs(missing, output)):
        if place == 0:
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
