"""Whether other warps near one explain the blocks of two images as well.

A warp is sure if every warp near it matches worse.  Where a part of the images has no common edges,
a homography may move its corner there without a loss: that corner is not determined, however well
the rest matches.  And where a homography near a similarity matches better, that is too simple.

Tried are warps of a model that move corners of the image by a few pixels: each alone, two
together, all, and as a rotation, scale or shear does.  How far "worse" depends on single blocks is
told by blocks drawn with replacement, as in `blocks`.
"""

import dataclasses

import numpy as np

from ditfuse_jax.align.blocks import BlockMatches
from ditfuse_jax.align.geometry import corners, jacobian

# By how many pixels, of the images compared, the corner moves that moves farthest.  A warp that is
# 5 pixels off counts as wrong.
_DISTANCE = 4.0
_RICHEST = "homography"


def _corner_moves() -> np.ndarray:
    """Returns movements of the corners, (M, 4, 2)."""
    one = np.eye(4)  # in the order of `corners`
    groups = [*one, *(one + np.roll(one, 1, 0)), *(one[:2] + one[2:]), np.ones(4)]
    angles = np.arange(8) * np.pi / 4
    moves = [
        np.outer(group, (np.cos(angle), np.sin(angle))) for group in groups for angle in angles
    ]
    # From the middle, in units of half a side.
    places = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    scale, rotation = [[1, 0], [0, 1]], [[0, -1], [1, 0]]
    aspect, shear = [[1, 0], [0, -1]], [[0, 1], [1, 0]]
    along_one_axis = one.reshape(4, 2, 2)
    for matrix in (scale, rotation, aspect, shear, *along_one_axis):
        moves += [sign * places @ np.transpose(matrix) for sign in (1, -1)]
    return np.stack(moves)


_CORNER_MOVES = _corner_moves()


@dataclasses.dataclass(frozen=True)
class Nearby:
    """What the warps near one do.

    Attributes:
      determined: share of the draws of blocks in which each warp of the same model is worse.
      outdone: largest share of the draws in which one and the same homography is no worse.
    """

    determined: float
    outdone: float


def try_nearby(matches: BlockMatches | None, model: str, size: tuple[int, ...]) -> Nearby:
    """Returns what the warps near one do.

    Args:
      matches: of the blocks after the warp, their centres in pixels of the whole reference; None if
        the images are too small, which determine nothing.
      model: of the warp, a name in `MODELS`.
      size: (height, width) of the reference.
    """
    if matches is None:
        return Nearby(0.0, 0.0)
    worse = _growth(matches, model, size) > 0
    richest = worse if model == _RICHEST else _growth(matches, _RICHEST, size) > 0
    return Nearby(float(worse.all(1).mean()), float(1 - richest.mean(0).min()))


def _growth(matches: BlockMatches, model: str, size: tuple[int, ...]) -> np.ndarray:
    """Returns by how much differences grow from a warp to those near it, (draws, M)."""
    height, width = size
    unit = max(size) / 2
    centre = (np.array([width, height]) - 1) / 2
    at_corners = jacobian(model, (corners(height, width) - centre) / unit)
    at_blocks = jacobian(model, (matches.centres - centre) / unit)
    # The nearest that the model can do.
    targets = _CORNER_MOVES.reshape(len(_CORNER_MOVES), -1).T
    parameters = np.linalg.lstsq(at_corners.reshape(8, -1), targets, rcond=None)[0]
    length = np.linalg.norm(at_corners @ parameters, axis=1).max(0)
    possible = length > 1e-6
    parameters = parameters[:, possible] * (_DISTANCE / length[possible])
    moved = _at(matches.differences, np.moveaxis(at_blocks @ parameters, 2, 0))
    middle = matches.differences.shape[1] // 2
    return matches.drawn() @ (moved - matches.differences[:, middle, middle]).T


def _at(surfaces: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Returns the values of N surfaces (N, k, k) at shifts (M, N, 2) from their middles, (M, N)."""
    side = surfaces.shape[1]
    place = np.clip(shifts + side // 2, 0, side - 1 - 1e-6)
    whole = place.astype(int)
    (right, down), (x, y) = np.moveaxis(place - whole, 2, 0), np.moveaxis(whole, 2, 0)
    block = np.arange(len(surfaces))
    above, below = (
        surfaces[block, row, x] * (1 - right) + surfaces[block, row, x + 1] * right
        for row in (y, y + 1)
    )
    return above * (1 - down) + below * down
