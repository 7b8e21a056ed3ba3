"""The shift between two images by the matches of their blocks, and how far the blocks agree on it.

It undoes a small shift, and it checks a warp, after which no part of the image may need a shift.

Each block of the reference is compared with the moving image at all shifts of a few pixels.  The
sum over the blocks is least at the shift of the images.  Sums over blocks drawn with replacement
(the bootstrap: Efron, 1979) tell how much that depends on single blocks.
"""

import dataclasses
import itertools

import cv2
import numpy as np

from ditfuse_jax.align.descriptors import MARGIN, orientation_descriptors

_COLUMNS, _ROWS = 8, 6
_DRAWS = 200
# Draws whose shift is no farther from that of all blocks agree with it, in pixels.
_AGREES = 1.5
# Of the blocks together.  Fewer pixels are no evidence.
_MIN_SIDE = 24


def _parts() -> np.ndarray:
    """Returns the blocks of the whole image and of its halves, one of them a row."""
    parts = np.zeros((5, _ROWS, _COLUMNS))
    parts[0] = 1
    parts[1, : _ROWS // 2] = parts[2, _ROWS // 2 :] = 1
    parts[3, :, : _COLUMNS // 2] = parts[4, :, _COLUMNS // 2 :] = 1
    return parts.reshape(5, -1)


_PARTS = _parts()


@dataclasses.dataclass(frozen=True)
class BlockShift:
    """The shift that the blocks of two images have in common.

    Attributes:
      shift: (x, y) in pixels, reference -> moving image.
      agreement: share of the draws of blocks that led to the same shift; 0 if it is at the end of
        the search, as the true one may lie beyond, or if the images are too small.
      spread: median distance in pixels between the shift and those of the draws.
      halves: the shifts of the upper, lower, left and right half alone, (4, 2).
    """

    shift: np.ndarray
    agreement: float
    spread: float
    halves: np.ndarray

    def scaled(self, factor: float) -> "BlockShift":
        """Returns the shift in pixels of an image that is larger by a factor."""
        return BlockShift(
            self.shift * factor, self.agreement, self.spread * factor, self.halves * factor
        )


@dataclasses.dataclass(frozen=True)
class BlockMatches:
    """How well each of N blocks matches at each shift.

    Attributes:
      differences: squared differences, (N, k, k); the middle one is without a shift.
      centres: of the blocks, in pixels (x, y), (N, 2).
    """

    differences: np.ndarray
    centres: np.ndarray

    def drawn(self) -> np.ndarray:
        """Returns how often each draw has each block, (draws, N)."""
        count = len(self.differences)
        return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _DRAWS)


def match_blocks(reference: np.ndarray, moving: np.ndarray, radius: int) -> BlockMatches | None:
    """Returns the matches of the blocks of two images; None if these are too small.

    Args:
      reference, moving: grey, float32 (h, w).
      radius: search shifts of up to so many pixels along x and y.
    """
    height, width = reference.shape
    margin = radius + 1 + MARGIN
    if min(height, width) < 2 * margin + _MIN_SIDE:
        return None
    # Channels last: OpenCV sums their differences itself.
    fixed, other = (
        np.ascontiguousarray(np.moveaxis(orientation_descriptors(image), 0, -1))
        for image in (reference, moving)
    )
    rows = np.linspace(margin, height - margin, _ROWS + 1).astype(int)
    columns = np.linspace(margin, width - margin, _COLUMNS + 1).astype(int)
    reach = radius + 1  # the peak of a shift by `radius` needs a neighbour
    differences = np.stack(
        [
            cv2.matchTemplate(
                other[top - reach : bottom + reach, left - reach : right + reach],
                fixed[top:bottom, left:right],
                cv2.TM_SQDIFF,
            )
            for top, bottom in itertools.pairwise(rows)
            for left, right in itertools.pairwise(columns)
        ]
    )
    middles = [(edges[1:] + edges[:-1] - 1) / 2 for edges in (columns, rows)]
    return BlockMatches(differences, np.stack(np.meshgrid(*middles), -1).reshape(-1, 2))


def shift_of_blocks(matches: BlockMatches | None) -> BlockShift:
    """Returns the shift that blocks have in common, to fractions of a pixel."""
    if matches is None:
        return BlockShift(np.zeros(2), 0.0, 0.0, np.zeros((4, 2)))
    sums = np.tensordot(np.vstack([_PARTS, matches.drawn()]), matches.differences, 1)
    shifts, inside = _minima(sums)
    shift, halves, drawn = shifts[0], shifts[1 : len(_PARTS)], shifts[len(_PARTS) :]
    distances = np.linalg.norm(drawn - shift, axis=1)
    agreement = float((distances <= _AGREES).mean()) if inside[0] else 0.0
    return BlockShift(shift, agreement, float(np.median(distances)), halves)


def _minima(surfaces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places (x, y) of the least values of (N, k, k), and whether k x k surrounds them.

    Fractions are those of the quadratic through the nine values around the least one.
    """
    count, side, _ = surfaces.shape
    y, x = np.divmod(surfaces.reshape(count, -1).argmin(1), side)
    inside = (np.minimum(x, y) > 0) & (np.maximum(x, y) < side - 1)
    y, x = np.clip(y, 1, side - 2), np.clip(x, 1, side - 2)
    step = np.arange(-1, 2)
    near = surfaces[
        np.arange(count)[:, None, None],
        y[:, None, None] + step[:, None],
        x[:, None, None] + step,
    ]
    along_x = (near[..., 2] - near[..., 0]).mean(1) / 2
    along_y = (near[:, 2] - near[:, 0]).mean(1) / 2
    xx = (near[..., 2] - 2 * near[..., 1] + near[..., 0]).mean(1)
    yy = (near[:, 2] - 2 * near[:, 1] + near[:, 0]).mean(1)
    xy = (near[:, 2, 2] - near[:, 2, 0] - near[:, 0, 2] + near[:, 0, 0]) / 4
    determinant = np.maximum(xx * yy - xy**2, 1e-12)
    part = -np.stack([yy * along_x - xy * along_y, xx * along_y - xy * along_x], 1)
    part = np.clip(part / determinant[:, None], -1, 1)
    return np.stack([x, y], 1) - side // 2 + part, inside
