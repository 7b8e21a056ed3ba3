"""Measures how steady fused sequences are, beside their sources; see `sequence_measures`."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.evaluate.runner.evaluated_model import sampled
from ditfuse_jax.evaluate.runner.methods import DEFAULT_METHOD
from ditfuse_jax.evaluate.sequence_measures import SequenceScores, Steadiness, SteadinessMeter
from ditfuse_jax.files import prepare_text_file, write_text
from ditfuse_jax.images import LoadedImage, RangeOption, SourceRanges
from ditfuse_jax.images.frames import (
    FrameSource,
    PairedFrames,
    measure_frames,
    open_sources,
    pair_frames,
    read_pairs,
)
from ditfuse_jax.images.samples import as_rgb
from ditfuse_jax.paths import as_path
from ditfuse_jax.sample import TrainedModel, load_trained
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.sequence_fuser import SequenceFuser, SequenceSettings
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS

_MEAN = "mean"  # a trivial fusion, for comparison


@dataclasses.dataclass(frozen=True)
class SequenceResults:
    """What was measured.

    Attributes:
      scores: of the sources and the methods; the trivial `mean` of the sources is one of them.
      sources: their paths.
      seconds: of fusing, without the first frame, which is compiled for; NaN if nothing was fused.
    """

    scores: SequenceScores
    sources: tuple[Path, ...]
    seconds: float = math.nan

    @property
    def frames_per_second(self) -> float:
        """Of fusing; NaN if nothing was fused."""
        return (self.scores.frames - 1) / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON file holds; `None` where nothing was measured."""
        scores = self.scores
        methods = {
            name: {**dataclasses.asdict(found), "ratio": scores.ratios(name)}
            for name, found in scores.fused.items()
        }
        values = {
            "frames": scores.frames,
            "static": scores.static,
            "moving": scores.moving,
            "sources": {
                str(path): dataclasses.asdict(found)
                for path, found in zip(self.sources, scores.sources, strict=True)
            },
            "methods": methods,
            "frames_per_second": self.frames_per_second,
        }
        return json.loads(json.dumps(values), parse_constant=lambda _: None)

    def __str__(self) -> str:
        """Returns the table."""
        names = [field.name for field in dataclasses.fields(Steadiness)]
        rows = [["", *(cell for name in names for cell in (name, "/ sources"))]]
        labels = [f"source {k}: {path.name}" for k, path in enumerate(self.sources, start=1)]
        for label, found in zip(labels, self.scores.sources, strict=True):
            cells = [(format_number(getattr(found, name)), "") for name in names]
            rows.append([label, *(cell for pair in cells for cell in pair)])
        for label, found in self.scores.fused.items():
            ratios = self.scores.ratios(label)
            cells = [
                (format_number(getattr(found, name)), format_number(ratios[name])) for name in names
            ]
            rows.append([label, *(cell for pair in cells for cell in pair)])
        about = (
            f"{self.scores.frames} frames; {self.scores.static:.0%} of the pixels are static, "
            f"{self.scores.moving:.0%} move; differences of neighbouring frames, of 255"
        )
        if not math.isnan(self.seconds):
            about += f"; fused at {self.frames_per_second:.2f} frames/s"
        return f"{aligned_text(rows)}\n{about}"


def evaluate_sequence(
    sources: Sequence[Path],
    fused: Mapping[str, Path] | None = None,
    *,
    checkpoint: Path | None = None,
    task: str = "fuse",
    sampling: Mapping[str, Any] | None = None,
    adapters: Sequence[Any] = (),
    base: Path | None = None,
    quantize: str | None = None,
    value_range: RangeOption = "auto",
    settings: SequenceSettings | None = None,
    pairing: str = "number",
    fps: float | None = None,
    json_file: Path | None = None,
    quiet: bool = False,
) -> SequenceResults:
    """Measures fused sequences, or a model that fuses the sources, frame by frame.

    Args:
      sources: two to four videos or folders of frames.
      fused: method -> video or folder of fused frames, one for each pair of the sources.
      checkpoint: a model that fuses the sources too; see `load_trained`.
      task, sampling, adapters, base, quantize, value_range: see `fuse`.
      settings: how the model uses neighbouring frames.
      pairing: which frames of the sources belong together; see `images.frames.pair_frames`.
      fps: frames per second of folders.
      json_file: also write the results there.
      quiet: no progress bar and no table.

    Raises:
      UserError: sequences that cannot be read or differ in size or number of frames.
    """
    if json_file is not None:
        json_file = as_path(json_file)
        prepare_text_file(json_file)
    opened = open_sources(sources, fps)
    pairs = pair_frames(opened, pairing)
    for note in () if quiet else pairs.notes:
        print(note, file=sys.stderr)
    methods = {name: _open_one(path) for name, path in (fused or {}).items()}
    for name, one in methods.items():
        if one.count != pairs.count:
            raise UserError(
                f"{one.path} ({name}) has {one.count} frames, the sources {pairs.count}: compare "
                "sequences of the same frames"
            )
        if name == _MEAN:
            raise UserError(f"a method cannot be called {_MEAN!r}: give it another name, NAME=FILE")
    if checkpoint is not None and DEFAULT_METHOD in methods:
        raise UserError(f"{DEFAULT_METHOD!r} is the model: name the other method, NAME=FILE")
    ranges = SourceRanges(
        [tuple(source.path for source in opened)],
        value_range,
        one_camera=task in ONE_CAMERA_TASKS,
        quiet=quiet,
        measured=measure_frames(opened),
    )
    streams: dict[str, Iterator[np.ndarray]] = {
        name: map(_pixels, one.frames()) for name, one in methods.items()
    }
    timed = None
    if checkpoint is not None:
        model = load_trained(checkpoint, adapters, base, quantize=quantize)
        stream = _fused(model, opened, pairs, ranges, task, sampling or {}, settings)
        timed = streams[DEFAULT_METHOD] = _Timed(stream)
    meter = SteadinessMeter(len(opened))
    stacks = read_pairs(opened, pairs)
    for stack in tqdm.tqdm(stacks, total=pairs.count, unit="frame", disable=quiet, delay=0.5):
        images = [ranges.read(image, k, 16) for k, image in enumerate(stack)]
        frames = {name: next(frames) for name, frames in streams.items()}
        mean = np.mean([image.astype(np.float32) for image in images], axis=0)
        frames[_MEAN] = np.rint(mean).astype(np.uint16)
        meter.add(images, frames)
    seconds = math.nan if timed is None else timed.seconds
    results = SequenceResults(meter.scores(), tuple(one.path for one in opened), seconds)
    if not quiet:  # before anything can fail
        print(results)
    if json_file is not None:
        write_text(json_file, json.dumps(results.to_dict(), indent=2) + "\n")
    return results


def _fused(
    trained: TrainedModel,
    sources: Sequence[FrameSource],
    pairs: PairedFrames,
    ranges: SourceRanges,
    task: str,
    sampling: Mapping[str, Any],
    settings: SequenceSettings | None,
) -> Iterator[np.ndarray]:
    """Fuses the frames as `ditfuse fuse` does, with 16 bits."""
    config = sampled(trained, sampling, [task])
    instruction = make_instruction(None, len(sources), config, task)
    fuser = SequenceFuser(trained, config, [instruction.prompt], len(sources), settings)

    def inputs() -> Iterator[tuple[int, FusionInput]]:
        for number, stack in enumerate(read_pairs(sources, pairs)):
            images = [ranges.read(image, k, None) for k, image in enumerate(stack)]
            yield number, instruction.fusion_input(images, 16)

    for _, image in fuser(inputs()):
        yield image


class _Timed:
    """Passes images on and measures how long each but the first took."""

    def __init__(self, images: Iterator[np.ndarray]):
        self._images = images
        self._first = True
        self.seconds = 0.0

    def __iter__(self) -> "_Timed":
        return self

    def __next__(self) -> np.ndarray:
        started = time.monotonic()
        image = next(self._images)
        if not self._first:
            self.seconds += time.monotonic() - started
        self._first = False
        return image


def _open_one(path: Path) -> FrameSource:
    return open_sources([path])[0]


def _pixels(frame: LoadedImage) -> np.ndarray:
    """The pixels of a fused frame, RGB (H, W, 3), uint8 or uint16.

    Raises:
      UserError: floats, whose black and white are not known.
    """
    values = frame.samples.values
    if values.dtype == np.float32:
        raise UserError(f"{frame}: float values: save fused frames with 8 or 16 bits")
    return as_rgb(values)
