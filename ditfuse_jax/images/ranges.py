"""Which sample values of an image with more than 8 bits become black and white.

16-bit files hold photographs, which fill their range, but also the counts of 10- to 14-bit sensors
and temperatures, which fill a few per cent of it.  The range is therefore measured:

- Dead pixels, and borders of 0 or of the largest value, as warping leaves them, are ignored.
- Colour is the output of a camera: black is 0, and white the largest value of the smallest sensor
  depth (10, 12, 14 or 16 bits) that holds all samples.
- Grey samples of which 99 % span at least a quarter of the file's range keep it, as do 8-bit values
  stored in 16 bits (all multiples of 256, or of 257).
- So do files that say so, as those of `write_image` do.
- Of other grey samples, the 0.5th percentile becomes black and the 99.5th white.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from ditfuse_jax.errors import UserError

RangeChoice = Literal["auto", "percentile", "camera", "full"] | tuple[float, float]

_CHOICES: tuple[Literal["auto", "percentile", "camera", "full"], ...] = (
    "auto",
    "percentile",
    "camera",
    "full",
)
_SENSOR_BITS = (10, 12, 14, 16)
_PERCENTILES = (0.5, 99.5)
_WIDE = 0.25  # of the file's range; grey samples that span as much keep it
_WARN_BELOW = 0.05  # of the file's range
_QUANTILES = 1001  # kept of each image
_BORDER_BLUR = 5  # pixels, side of the square by which warping mixes a border into the image
_FEWEST_VALID = 0.1  # of the pixels; with fewer inside the borders, everything is measured
_UINT16_MAX = 65535


@dataclasses.dataclass(frozen=True)
class ValueRange:
    """The sample values that become black and white."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.6g}..{self.high:.6g}"


_FULL = ValueRange(0, _UINT16_MAX)


@dataclasses.dataclass(frozen=True)
class SampleStatistics:
    """What the choice of a range needs to know of one image's samples.

    Attributes:
      quantiles: (1001,) evenly spaced, of the valid samples without dead pixels.
      largest: sample that is no single pixel or line.
      colour: whether the samples are colours.
      widened: the divisors of 256 and 257 that all samples have.
      top: the largest value that the file can hold; 1 for float samples.
      full_range: whether the file says that this is white.
    """

    quantiles: np.ndarray
    largest: float
    colour: bool
    widened: frozenset[int]
    top: float
    full_range: bool = False


def parse_range(choice: str | Sequence[float]) -> RangeChoice:
    """Reads `LOW,HIGH`, one of the four names; a pair of numbers is checked.

    Raises:
      UserError: anything else, or a high value that is not above the low one.
    """
    for name in _CHOICES:
        if choice == name:
            return name
    parts = choice.split(",") if isinstance(choice, str) else list(choice)
    try:
        low, high = map(float, parts)
    except (TypeError, ValueError) as error:
        known = ", ".join(_CHOICES)
        raise UserError(f"range {choice!r} is neither LOW,HIGH nor one of {known}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"range {choice!r}: the first number must be below the second")
    return low, high


def measure_samples(samples: np.ndarray, full_range: bool = False) -> SampleStatistics:
    """Returns the statistics of samples, uint16 or float32, (H, W) grey or (H, W, 3) colour.

    `full_range`: the file says that white is its largest value.

    Raises:
      UserError: no sample is finite.
    """
    colour, whole = samples.ndim == 3, samples.dtype == np.uint16
    top = _UINT16_MAX if whole else 1.0
    finite = samples if whole else np.nan_to_num(samples, nan=0, posinf=0, neginf=0)
    valid = _valid(samples, top)
    if not valid.any():
        raise UserError("no sample is a finite number")
    kept = finite[valid]
    steady = cv2.medianBlur(np.ascontiguousarray(finite), 3)[valid]  # no dead pixels and lines
    least, largest = float(steady.min()), float(steady.max())
    # Noise exceeds the range of the medians a little, a dead pixel by far.
    span = largest - least
    alive = (kept >= least - span) & (kept <= largest + span)
    if span:
        kept = kept[alive]
    quantiles = np.percentile(kept, np.linspace(0, 100, _QUANTILES))
    divisors = [n for n in (256, 257) if whole and not (samples % n).any()]
    return SampleStatistics(quantiles, largest, colour, frozenset(divisors), top, full_range)


def _valid(samples: np.ndarray, top: float) -> np.ndarray:
    """(H, W) whether a pixel is outside of borders and holds a finite value."""
    grey = samples if samples.ndim == 2 else samples.max(axis=2)
    finite = np.isfinite(grey)
    filled = (~finite | (grey == 0) | (grey == top)).astype(np.uint8)
    _, components = cv2.connectedComponents(filled, connectivity=4)
    edge = np.concatenate([components[0], components[-1], components[:, 0], components[:, -1]])
    borders = np.isin(components, edge[edge > 0]).astype(np.uint8)
    borders = cv2.dilate(borders, np.ones((_BORDER_BLUR, _BORDER_BLUR), np.uint8))
    valid = (borders == 0) & finite
    return valid if valid.mean() >= _FEWEST_VALID else finite


def choose_range(images: Sequence[SampleStatistics], choice: RangeChoice, name: str) -> ValueRange:
    """Returns the common range of images of one source.

    Args:
      images: at least one.
      choice: `auto` as the module's docstring says; `percentile` and `camera` are its rules for
        grey and colour samples, applied to both; `full` is 0 to 65535, or 1 for floats; or the
        two values.
      name: of the source, for messages.

    Raises:
      UserError: float samples above 1 whose white is not known.
    """
    if isinstance(choice, tuple):
        return ValueRange(*choice)
    top = images[0].top
    if any(image.top != top for image in images):
        raise UserError(
            f"{name}: some files hold whole numbers and some floats: give their range as LOW,HIGH"
        )
    quantiles = np.concatenate([image.quantiles for image in images])
    if choice == "full" or (choice == "auto" and all(image.full_range for image in images)):
        if top == 1 and quantiles.max() > top:
            raise _no_white(quantiles.max(), name)
        return ValueRange(0, top)
    colour = any(image.colour for image in images)
    if choice == "camera" or (choice == "auto" and colour):
        return _camera_range(max(image.largest for image in images), top, name)
    low, high = np.percentile(quantiles, _PERCENTILES)
    if low == high:
        low, high = quantiles.min(), quantiles.max()
    widened = frozenset.intersection(*(image.widened for image in images))
    fits = quantiles.min() >= 0 and quantiles.max() <= top
    wide = fits and high - low >= _WIDE * top
    if low == high or (choice == "auto" and (wide or widened)):
        return ValueRange(0, top) if fits else ValueRange(low - 1, low + 1)
    return ValueRange(float(low), float(high))


def _camera_range(largest: float, top: float, name: str) -> ValueRange:
    if top == 1:
        if largest <= 1:
            return ValueRange(0, 1)
        raise _no_white(largest, name)
    return ValueRange(0, next(2**bits - 1 for bits in _SENSOR_BITS if largest < 2**bits))


def _no_white(largest: float, name: str) -> UserError:
    return UserError(
        f"{name}: float samples up to {largest:.4g} have no defined white: name black and white"
        " as a range LOW,HIGH, or tone-map the image and save it with 16 bits"
    )


def describe_range(images: Sequence[SampleStatistics], chosen: ValueRange, name: str) -> str | None:
    """Returns one line on a range that is not the file's own; None where it is."""
    top = images[0].top
    quantiles = np.concatenate([image.quantiles for image in images])
    if chosen == ValueRange(0, top):
        return f"warning: {name}: samples below 0 become black" if quantiles.min() < 0 else None
    low, high = np.percentile(quantiles, _PERCENTILES)
    if top == 1 and not 0 <= low <= high <= 1:  # a unit of their own
        used = f"samples lie in {low:.6g}..{high:.6g}"
        return f"{name}: {used}; {chosen} becomes black..white (--range changes it)"
    share = (high - low) / top
    kind = f"of {top:g}" if top == 1 else "of the 16-bit range"
    used = f"samples use {100 * share:.2g} % {kind} ({low:.6g}..{high:.6g})"
    start = "warning: " if share < _WARN_BELOW else ""
    return f"{start}{name}: {used}; {chosen} becomes black..white (--range changes it)"


def apply_range(
    samples: np.ndarray, chosen: ValueRange, *, depth: int = 8, linear: bool = False
) -> np.ndarray:
    """Maps a range of samples to black..white and clips the rest.

    Args:
      samples: uint16 or float32, any shape; NaN becomes black.
      chosen: the values that become 0 and the largest one.
      depth: 8 or 16 bits.
      linear: the samples are proportional to light, so the curve of sRGB (IEC 61966-2-1) is applied
        between black and white.

    Returns:
      uint8 or uint16, the same shape.  With the full 16-bit range the values, or their high bytes.
    """
    if samples.dtype == np.uint16 and chosen == _FULL and not linear:
        return samples.copy() if depth == 16 else (samples >> 8).astype(np.uint8)
    largest, dtype = (_UINT16_MAX, np.uint16) if depth == 16 else (255, np.uint8)
    scale = np.float32((1 if linear else largest) / (chosen.high - chosen.low))
    scaled = (samples.astype(np.float32) - np.float32(chosen.low)) * scale
    if linear:
        light = np.clip(scaled, 0, 1)
        curve = np.float32(1.055) * light ** np.float32(1 / 2.4) - np.float32(0.055)
        scaled = largest * np.where(light <= 0.0031308, np.float32(12.92) * light, curve)
    return np.clip(np.rint(np.nan_to_num(scaled, nan=0)), 0, largest).astype(dtype)
