"""What a model decides about a tile, used for the frames in which the tile's sources stay the same.

The head `bands` weights the sources by values of cells of 4x4 pixels that the transformer computes,
and by the pixels themselves.  The cells' values depend on what a scene shows: they are computed
again where the sources change by more than noise, and otherwise in turns.  Pixels are always those
of the present frame.
"""

import dataclasses
from typing import Any

import cv2
import numpy as np

BLOCK = 8  # pixels along the side of the squares whose means are compared
_CHANGE = 0.024  # of a range of 2, of one square: 3 of 255 are seen as a change ...
_NOISE_FACTOR = 6.0  # ... unless the noise of all squares is larger: standard deviations ...
_LARGEST_CHANGE = 0.063  # ... up to 8 of 255
_TO_DEVIATION = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


@dataclasses.dataclass(frozen=True)
class Kept:
    """What was computed of a part of frame `number`, of which `means` are the `block_means`."""

    value: Any
    means: np.ndarray
    key: Any
    number: int


class DecisionReuse:
    """Keeps what was computed of parts of a sequence's frames."""

    def __init__(self, frames: int):
        """Creates an empty store; `frames`: for how many frames a value is used at most."""
        self._frames = frames
        self._kept: dict[Any, Kept] = {}
        self._number = -1

    def next_frame(self) -> None:
        """Begins a frame."""
        self._number += 1

    def find(self, name: tuple[Any, ...], turn: int, means: np.ndarray, key: Any) -> Any:
        """Returns what was kept of a part; None if it is to be computed again.

        Args:
          name: of the part.
          turn: parts of different turns are computed again in different frames.
          means: `block_means` of its sources in this frame.
          key: what else it depends on.
        """
        kept = self.before(name, key)
        if kept is None or kept.means.shape != means.shape:
            return None
        if self._number - kept.number >= self._frames:
            return None
        if (self._number + turn) % self._frames == 0 or has_changed(kept.means, means):
            return None
        return kept.value

    def before(self, name: tuple[Any, ...], key: Any) -> Kept | None:
        """Returns what was last computed of a part with this key, however old it is."""
        kept = self._kept.get(name)
        return None if kept is None or kept.key != key else kept

    def keep(self, name: tuple[Any, ...], means: np.ndarray, key: Any, value: Any) -> None:
        """Keeps the value of a part."""
        self._kept[name] = Kept(value, means, key, self._number)


def has_changed(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether sources show something else, by their `block_means` (n, h, w, C) of two frames."""
    for earlier, later in zip(before, now, strict=True):
        change = later - earlier
        # Light that changes has another mean than noise.
        deviation = _TO_DEVIATION * float(np.median(np.abs(change - np.median(change))))
        limit = min(max(_CHANGE, _NOISE_FACTOR * deviation), _LARGEST_CHANGE)
        if np.abs(change).max() > limit:
            return True
    return False


def block_means(images: np.ndarray) -> np.ndarray:
    """Means over squares, (n, h, w, C), of images (n, H, W, C) of multiples of `BLOCK` pixels."""
    size = images.shape[2] // BLOCK, images.shape[1] // BLOCK
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
