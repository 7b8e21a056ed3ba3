"""Reading the sources of a job so that all files of one source share a range."""

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError, one_line
from ditfuse_jax.images.decode import read_samples, to_rgb8
from ditfuse_jax.images.in_memory import LoadedImage
from ditfuse_jax.images.ranges import (
    RangeChoice,
    SampleStatistics,
    ValueRange,
    apply_range,
    choose_range,
    describe_range,
    measure_samples,
    parse_range,
)
from ditfuse_jax.images.samples import Samples, as_rgb
from ditfuse_jax.images.values import with_depth

_SLOW = 3.0  # seconds of measuring before a progress bar appears

# A file, or an image that is in memory.
ImageSource = str | os.PathLike[str] | LoadedImage

RangeOption = str | Sequence[float] | Sequence[str | Sequence[float]]


class SourceRanges:
    """The range of sample values of each source: the same for all of its files.

    A range of its own per frame would make a sequence flicker.  Only files with more than 8 bits
    per channel have one; as soon as such a file is read, all files of the job are measured, and a
    line on the error stream names each range that is not the file's own.
    """

    def __init__(
        self,
        stacks: Sequence[Sequence[ImageSource]],
        value_range: RangeOption = "auto",
        *,
        one_camera: bool = False,
        quiet: bool = False,
        measured: Mapping[int, Sequence[SampleStatistics]] | None = None,
    ):
        """Creates the ranges; reads nothing yet.

        Args:
          stacks: the files of the job, one tuple per stack, with one file per source; they may be
            images in memory.
          value_range: `auto`, `percentile`, `camera`, `full` or two numbers (see
            `images.ranges`), for all sources; or a list with one of these for each source.
          one_camera: all sources come from one camera, such as exposures, and share one range.
            Colour sources always do.
          quiet: print nothing.
          measured: source -> statistics of images by which its range is chosen, instead of all
            files of the job; only the first stack is then used, for the sources' names.

        Raises:
          UserError: a bad range, or not one for each source.
        """
        self._measured = measured
        self._stacks = [tuple(stack) for stack in stacks]
        count = max(map(len, self._stacks), default=0)
        self.choices = _choices(value_range, count)
        self._one_camera = one_camera
        self._quiet = quiet
        self._told: set[tuple[int, str]] = set()
        # Source -> what is to be known of how its image that was read last was read.
        self.notes: dict[int, tuple[str, ...]] = {}
        self._used = False

    def read(self, path: ImageSource, source: int, depth: int | None = 8) -> np.ndarray:
        """Returns the image in a file.

        Args:
          path: the file, or an image in memory.
          source: its place in the stack, from 0.
          depth: 8 bits, 16 bits, or None for 16 if the file has more than 8.

        Returns:
          uint8 or uint16 (H, W, 3) RGB.

        Raises:
          UserError: see `read_samples`; it has more than 8 bits, and the measured images have 8.
        """
        read = _samples(path)
        self.notes[source] = read.notes
        self._tell(path, source, read.notes)
        samples = read.values
        if samples.dtype == np.uint8:
            return with_depth(samples, depth or 8)
        self._used = True
        chosen = self._ranges.get(source)
        named = self.choices[source] if source < len(self.choices) else "auto"
        if chosen is None and isinstance(named, tuple):  # for which nothing need be measured
            chosen = self._ranges[source] = ValueRange(*named)
        if chosen is None:
            raise UserError(
                f"{path}: has more than 8 bits per channel, but no image by which the range of its"
                " source was chosen has: give a range (--range LOW,HIGH)"
            )
        return as_rgb(apply_range(samples, chosen, depth=depth or 16, linear=read.linear))

    def without_effect(self, images: Sequence[LoadedImage] | None = None) -> str:
        """Returns a line if a range was given that has no effect; else "".

        `images`: on which it has none; by default all that were read.
        """
        used = self._used
        if images is not None:
            used = any(image.samples.values.dtype != np.uint8 for image in images)
        if used or all(choice == "auto" for choice in self.choices):
            return ""
        return "the range that was given has no effect: no image has more than 8 bits per channel"

    def read_reference(self, path: Path, source: int) -> np.ndarray:
        """Returns an image that is compared with a source, such as a clean one, with its range.

        Args:
          path: a file that is not one of the job's.
          source: on whose pixels the image lies.  If its files have 8 bits, and so no range, a
            file with more has a range of its own.

        Returns:
          uint8 (H, W, 3) RGB.

        Raises:
          UserError: see `read_samples`.
        """
        read = read_samples(path)
        deep = read.values.dtype != np.uint8  # only then the job's files are measured
        if deep and (isinstance(self.choices[source], tuple) or source in self._ranges):
            return self.read(LoadedImage(read, str(path)), source)
        return to_rgb8(read, str(path), self.choices[source])

    def _tell(self, path: ImageSource, source: int, notes: Sequence[str]) -> None:
        """Prints what is to be known of a file, once for all files of its source."""
        for note in notes:
            told = (source, note) in self._told
            self._told.add((source, note))
            if not told and not self._quiet:
                more = " (and maybe others of this source)" if len(self._stacks) > 1 else ""
                tqdm.tqdm.write(one_line(f"{path}: {note}{more}"), file=sys.stderr)

    @property
    def chosen(self) -> dict[int, ValueRange]:
        """Source -> its range, of the sources that were measured."""
        return dict(self.__dict__.get("_ranges", {}) if self._measured is None else self._ranges)

    def _measure(self) -> dict[int, list[SampleStatistics]]:
        measured: dict[int, list[SampleStatistics]] = {}
        with tqdm.tqdm(
            self._stacks, unit="img", desc="range", delay=_SLOW, disable=self._quiet, leave=False
        ) as bar:
            for stack in bar:
                for source, path in enumerate(stack):
                    try:
                        samples = _samples(path)
                        if samples.values.dtype == np.uint8:
                            continue
                        statistics = measure_samples(samples.values, samples.full_range)
                    except UserError:
                        continue  # named when it is read itself
                    measured.setdefault(source, []).append(statistics)
        return measured

    @functools.cached_property
    def _ranges(self) -> dict[int, ValueRange]:
        measured = self._measure() if self._measured is None else self._measured
        ranges = {}
        for source, images in measured.items():
            shared = [
                image
                for other, others in measured.items()
                for image in others
                if other == source or self._one_camera or (images[0].colour and others[0].colour)
            ]
            name = self._name(source)
            ranges[source] = choose_range(shared, self.choices[source], name)
            line = describe_range(images, ranges[source], name)
            if line and not self._quiet:
                tqdm.tqdm.write(line, file=sys.stderr)
        return ranges

    def _name(self, source: int) -> str:
        first = self._stacks[0][source]
        if isinstance(first, LoadedImage):
            return str(first)
        return str(first if len(self._stacks) == 1 else Path(first).parent)


def _samples(source: ImageSource) -> Samples:
    return source.samples if isinstance(source, LoadedImage) else read_samples(source)


def _choices(value_range: RangeOption, count: int) -> list[RangeChoice]:
    one_for_all = isinstance(value_range, str) or all(
        isinstance(part, int | float) for part in value_range
    )
    parts: Sequence[Any] = [value_range] if one_for_all else value_range
    given: list[RangeChoice] = [parse_range(part) for part in parts]
    if len(given) == 1:
        return given * count
    if len(given) != count:
        raise UserError(f"{len(given)} ranges for {count} sources: give one, or one for each")
    return given
