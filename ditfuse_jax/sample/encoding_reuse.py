"""Encoded conditions of tiles that are used for several frames of a sequence.

More than half of the work on a tile is its condition's keys and values, which say what the sources
show around each place.  They change slowly from frame to frame, while everything that is tied to a
pixel, the sources in the head and the bias of the target tokens, is computed afresh.  The tiles
take turns, so that all frames take equally long and nothing jumps at once.
"""

import dataclasses
from typing import Any

import numpy as np

from ditfuse_jax.model import EncodedCondition
from ditfuse_jax.sample.decision_reuse import BLOCK, DecisionReuse, block_means

_CUT = 0.15  # mean absolute change of `block_means` at which a tile is encoded at once
_MAX_BYTES = 2**29  # of all kept conditions of an image


@dataclasses.dataclass
class _Kept:
    encoded: EncodedCondition
    tokens: bytes
    means: np.ndarray


class EncodingReuse:
    """Keeps the encoded conditions of the groups of tiles of a sequence's frames."""

    def __init__(self, frames: int):
        """Creates an empty store; `frames`: for how many frames one is used, 1 for none."""
        self._frames = frames
        self._kept: dict[tuple[Any, int], _Kept] = {}
        self._number = -1
        self.decisions = DecisionReuse(frames)

    def next_frame(self) -> None:
        """Begins a frame."""
        self._number += 1
        self.decisions.next_frame()

    def find(self, size: Any, group: int, condition: Any) -> EncodedCondition | None:
        """Returns what was kept for a group of tiles; None if it is to be encoded.

        Args:
          size: tells images of several sizes apart.
          group: number of the group.
          condition: of its tiles, NumPy arrays.
        """
        kept = self._kept.get((size, group))
        if kept is None or (self._number + group) % self._frames == 0:
            return None
        means = _means(condition.images)
        if kept.tokens != condition.tokens.tobytes() or kept.means.shape != means.shape:
            return None
        return None if np.abs(kept.means - means).mean() > _CUT else kept.encoded

    def keep(
        self, size: Any, group: int, condition: Any, encoded: EncodedCondition, groups: int
    ) -> None:
        """Keeps the encoded condition of one of `groups` groups."""
        count = sum(x.size * x.dtype.itemsize for x in (*encoded.key_values, encoded.target_bias))
        if self._frames > 1 and count * groups <= _MAX_BYTES:
            tokens = condition.tokens.tobytes()
            self._kept[size, group] = _Kept(encoded, tokens, _means(condition.images))


def _means(images: np.ndarray) -> np.ndarray:
    """Means over squares, (N, h, w, C), of images (..., H, W, C)."""
    height, width = images.shape[-3:-1]
    whole = images[..., : height - height % BLOCK, : width - width % BLOCK, :]
    return block_means(whole.reshape(-1, *whole.shape[-3:]))
