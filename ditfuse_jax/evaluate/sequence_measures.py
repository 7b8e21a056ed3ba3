"""How steady fused sequences are: flicker where nothing changes, and differences along the motion.

Both are measured of the sources too: noise of a camera flickers in every fusion, and what a fused
sequence does beyond its sources is the fusion's own.  All values are differences of luma (BT.601)
of neighbouring frames, in values of 0 to 255.

The warped difference is the temporal error of Lai et al. 2018, "Learning Blind Video Temporal
Consistency", as a mean of absolute differences, with optical flow by Kroeger et al. 2016, "Fast
Optical Flow using Dense Inverse Search" on the first source.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ditfuse_jax.errors import UserError

_BLUR = 9  # pixels, side of the square over which changes of a source are averaged
_CHANGE = 1.0  # of 255: a source that changes less, on average over the square, is static ...
_NOISE_FACTOR = 4.0  # ... or less than this many standard deviations of its averaged noise
_MOTION = 0.5  # pixels from one frame to the next
_LARGEST_GRADIENT = 1.0  # pixels per pixel, of the flow: at its edges things appear and vanish
_SMALLEST_FLOW = 32  # pixels: the search needs a few of its patches
_TO_DEVIATION = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


@dataclasses.dataclass
class _Sums:
    """Sums over the pixels and frames of one sequence."""

    static: float = 0.0
    means: float = 0.0
    warped: float = 0.0


@dataclasses.dataclass(frozen=True)
class Steadiness:
    """How steady one sequence is; NaN where there is nothing to measure.

    Attributes:
      flicker: root mean square of the changes of static pixels.
      pumping: root mean square over the frames of the mean change of static pixels.
      warped: mean absolute difference to the frame before, moved by the optical flow, where there
        is motion.
    """

    flicker: float
    pumping: float
    warped: float


@dataclasses.dataclass(frozen=True)
class SequenceScores:
    """The steadiness of the sources and of fused sequences.

    Attributes:
      sources: of each source.
      fused: name -> of this method.
      frames: number of frames.
      static: share of the pixels that are static, over all pairs of neighbouring frames.
      moving: share of the pixels where the warped difference is measured.
    """

    sources: tuple[Steadiness, ...]
    fused: dict[str, Steadiness]
    frames: int
    static: float
    moving: float

    def ratios(self, name: str) -> dict[str, float]:
        """Measure -> value of a method, divided by the mean of the sources' values."""
        return {
            field.name: _ratio(
                getattr(self.fused[name], field.name),
                [getattr(source, field.name) for source in self.sources],
            )
            for field in dataclasses.fields(Steadiness)
        }


def _ratio(value: float, others: Sequence[float]) -> float:
    mean = sum(others) / len(others)
    return value / mean if mean else math.nan


def luma(image: np.ndarray) -> np.ndarray:
    """Returns luma (H, W) float32, 0 to 255, of RGB (H, W, 3), uint8 or uint16."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey / np.float32(257) if image.dtype == np.uint16 else grey


class SteadinessMeter:
    """Measures sequences frame by frame; keeps only the frames before.

    meter = SteadinessMeter(2)
    for sources, fused in frames:
        meter.add(sources, {"fused": fused})
    scores = meter.scores()
    """

    def __init__(self, num_sources: int):
        """Creates a meter."""
        self._sums: dict[str | int, _Sums] = {k: _Sums() for k in range(num_sources)}
        self._before: dict[str | int, np.ndarray] = {}
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._count = num_sources
        self._frames = self._pixels = self._static = self._static_frames = self._followed = 0

    def add(self, sources: Sequence[np.ndarray], fused: Mapping[str, np.ndarray]) -> None:
        """Adds the next frame, RGB (H, W, 3), uint8 or uint16.

        Args:
          sources: as the model sees them, in the order of all frames.
          fused: method -> its frame.

        Raises:
          UserError: an image of another size.
        """
        images = {**dict(enumerate(sources)), **fused}
        now = {name: luma(image) for name, image in images.items()}
        size = now[0].shape
        for name, image in now.items():
            if image.shape != size or (self._before and self._before[name].shape != size):
                what = f"source {name + 1}" if isinstance(name, int) else name
                raise UserError(
                    f"frame {self._frames}: {what} is {image.shape[1]}x{image.shape[0]}, not "
                    f"{size[1]}x{size[0]}: all frames must have one size"
                )
            self._sums.setdefault(name, _Sums())
        if self._before:
            self._compare(now)
        self._before = now
        self._frames += 1

    def _compare(self, now: dict[str | int, np.ndarray]) -> None:
        changes = {name: image - self._before[name] for name, image in now.items()}
        motion = _follow(self._flow, now[0], self._before[0])
        static = static_pixels([changes[k] for k in range(self._count)]) & ~motion.moving
        self._pixels += static.size
        self._static += int(static.sum())
        if static.any():
            self._static_frames += 1
            for name, change in changes.items():
                kept = change[static].astype(np.float64)
                self._sums[name].static += float(np.square(kept).sum())
                self._sums[name].means += float(kept.mean()) ** 2
        self._followed += int(motion.followed.sum())
        if motion.followed.any():
            for name, image in now.items():
                moved = cv2.remap(self._before[name], motion.x, motion.y, cv2.INTER_CUBIC)
                difference = np.abs(image - moved)[motion.followed]
                self._sums[name].warped += float(difference.sum(dtype=np.float64))

    def scores(self) -> SequenceScores:
        """Returns the scores of the frames so far.

        Raises:
          UserError: fewer than two frames.
        """
        if self._frames < 2:
            raise UserError(f"{self._frames} frames: a sequence has at least two")

        def steadiness(sums: _Sums) -> Steadiness:
            return Steadiness(
                math.sqrt(sums.static / self._static) if self._static else math.nan,
                math.sqrt(sums.means / self._static_frames) if self._static else math.nan,
                sums.warped / self._followed if self._followed else math.nan,
            )

        found = {name: steadiness(sums) for name, sums in self._sums.items()}
        return SequenceScores(
            tuple(found[k] for k in range(self._count)),
            {name: value for name, value in found.items() if isinstance(name, str)},
            self._frames,
            self._static / self._pixels,
            self._followed / self._pixels,
        )


@dataclasses.dataclass(frozen=True)
class _Motion:
    """Optical flow from a frame to the one before, (H, W) each.

    `moving`: where there is motion; `followed`: and both directions agree on it; `x`, `y`: the
    places in the frame before.
    """

    moving: np.ndarray
    followed: np.ndarray
    x: np.ndarray
    y: np.ndarray


def _follow(estimate: cv2.DISOpticalFlow, now: np.ndarray, before: np.ndarray) -> _Motion:
    grid: Any = np.indices(now.shape, dtype=np.float32)
    rows, columns = grid
    if min(now.shape) < _SMALLEST_FLOW:
        still = np.zeros(now.shape, bool)
        return _Motion(still, still, columns, rows)
    # Smoothed, so that the noise of the camera alone is no motion.
    now, before = (
        np.clip(np.rint(cv2.GaussianBlur(image, (0, 0), 1.0)), 0, 255).astype(np.uint8)
        for image in (now, before)
    )
    empty = np.zeros((*now.shape, 2), np.float32)
    flow = estimate.calc(now, before, empty)
    back = estimate.calc(before, now, empty.copy())
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    returned = np.stack([cv2.remap(back[..., k], x, y, cv2.INTER_LINEAR) for k in (0, 1)], -1)
    inside = (x >= 0) & (y >= 0) & (x <= now.shape[1] - 1) & (y <= now.shape[0] - 1)
    agreed = np.linalg.norm(flow + returned, axis=-1) < _MOTION
    steep = np.max([np.abs(g) for k in (0, 1) for g in np.gradient(flow[..., k])], axis=0)
    moving = np.linalg.norm(flow, axis=-1) > _MOTION
    return _Motion(moving, moving & inside & agreed & (steep < _LARGEST_GRADIENT), x, y)


def static_pixels(changes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns where no source changes but by noise, bool (H, W).

    A change is averaged over a square, so that noise averages out and a thing that moves does not.

    Args:
      changes: of each source, float (H, W), values of 0 to 255.
    """
    static = np.ones(changes[0].shape, bool)
    for change in changes:
        deviation = _TO_DEVIATION * float(np.median(np.abs(change - np.median(change))))
        limit = max(_CHANGE, _NOISE_FACTOR * deviation / _BLUR)
        static &= np.abs(cv2.blur(change, (_BLUR, _BLUR))) < limit
    return static
