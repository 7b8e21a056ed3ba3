"""Steadies the static regions of a fused sequence.

A fusion follows the source with more detail, noise included, and may raise contrast: its noise is
then larger than the sources' mean, and seen as flicker.  Where no source changes but by noise, a
share of the frame before is mixed in (a recursive temporal filter); where anything moves, nothing.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from ditfuse_jax.images import is_grey

SHARE = 0.3  # of the frame before, where nothing changes

_SIDE = 9  # pixels of the square over which a change is measured
_FLATTEST = 10  # percentile of the local changes: that of places which hold noise only
_SAMPLED = np.s_[::3, ::3]  # the places by which that is found: neighbours say the same
_STRIP = 256  # rows
_BLACK, _WHITE = 2.0, 253.0  # noise is cut off beyond


class StaticSmoother:
    """Mixes frames with those before, one after the other."""

    def __init__(self, share: float = SHARE):
        """Creates a smoother; `share` of the frame before, from 0 to below 1."""
        self._share = np.float32(share)
        self._number = -2
        self._sources: list[np.ndarray] = []
        self._fused: np.ndarray | None = None

    def __call__(self, number: int, sources: Sequence[np.ndarray], fused: np.ndarray) -> np.ndarray:
        """Returns the fused frame, smoothed.

        Args:
          number: of the frame; one that does not follow the last is left as it is.
          sources: RGB (H, W, 3), uint8 or uint16.
          fused: RGB (H, W, 3), uint8 or uint16.
        """
        # In their own type: a large frame as float32 would take as much memory as sampling it.
        now = [plane for source in sources for plane in _planes(source)]
        values = fused.astype(np.float32)
        before = self._fused
        follows = number == self._number + 1 and len(now) == len(self._sources)
        if follows and before is not None and before.shape == values.shape:
            weight = static_weights(self._sources, now)
            for rows in _strips(values):
                change = before[rows] - values[rows]
                values[rows] += (self._share * weight[rows])[..., None] * change
        self._number, self._sources, self._fused = number, now, values
        result = np.empty_like(fused)
        for rows in _strips(values):
            result[rows] = np.rint(values[rows])
        return result


def static_weights(before: Sequence[np.ndarray], now: Sequence[np.ndarray]) -> np.ndarray:
    """Returns float32 (H, W): 1 where nothing changes but by noise, 0 where something does.

    Args:
      before, now: the channels of all sources (H, W), uint8, uint16, or float32 of 0 to 255.
    """
    weights = np.ones(now[0].shape, np.float32)
    for earlier, later in zip(before, now, strict=True):
        values, change = _levels(later), _levels(earlier)
        sampled = values[_SAMPLED].copy()
        np.subtract(values, change, out=change)
        del values
        # Noise has a mean of 0 everywhere; light that changes has not.
        mean = cv2.blur(change, (_SIDE, _SIDE))
        change -= mean
        local = cv2.blur(np.square(change, out=change), (_SIDE, _SIDE))
        del change
        np.sqrt(local, out=local)
        measured = local[_SAMPLED][(sampled > _BLACK) & (sampled < _WHITE)]
        noise = float(np.percentile(measured, _FLATTEST)) if measured.size else 0.0
        for size, full, none in (
            (local, 1.7 * noise + 0.5, 2.5 * noise + 1.0),
            (np.abs(mean, out=mean), 4 / _SIDE * noise + 0.5, 8 / _SIDE * noise + 1.0),
        ):
            np.subtract(none, size, out=size)
            size /= none - full
            np.minimum(weights, np.clip(size, 0, 1, out=size), out=weights)
    return cv2.erode(weights, np.ones((3, 3), np.uint8))


def _planes(image: np.ndarray) -> list[np.ndarray]:
    """Copies of the channels of an image, (H, W) each; one if they are equal."""
    return [image[..., k].copy() for k in range(1 if is_grey(image) else 3)]


def _levels(plane: np.ndarray) -> np.ndarray:
    """A channel as a new float32 array, 0 to 255."""
    values = plane.astype(np.float32)
    if plane.dtype == np.uint16:
        values *= np.float32(1 / 257)
    return values


def _strips(image: np.ndarray) -> Iterator[slice]:
    """The rows of an image in parts, whose intermediate results take little memory."""
    return (slice(top, top + _STRIP) for top in range(0, len(image), _STRIP))
