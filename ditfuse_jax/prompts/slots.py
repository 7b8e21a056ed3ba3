"""Text slots of fixed capacity, so that prompts of all lengths use one compiled program.

With n images a condition has n+1 text slots: before the first image, between images, after the
last.  Tokens fill a slot from its start; the rest is padding, which the model masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import numpy as np

from ditfuse_jax.errors import UserError


@dataclass(frozen=True, eq=False)
class PackedText:
    """The tokens of all text slots, concatenated.

    Attributes:
      tokens: int32 (T,), T the sum of the slots' capacities.
      valid: bool (T,), False for padding.
    """

    tokens: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class TextSlots:
    """Capacities in tokens.

    Attributes:
      first: of the slot before the first image.
      middle: of every slot between two images.
      last: of the slot after the last image, usually the instruction.
    """

    first: int
    middle: int
    last: int

    def __post_init__(self):
        for field in fields(self):
            if (capacity := getattr(self, field.name)) < 1:
                raise UserError(
                    f"text slot `{field.name}` has capacity {capacity}: give at least 1"
                )

    def capacities(self, num_images: int) -> tuple[int, ...]:
        """Returns the capacities of the `num_images` + 1 text slots.

        Without images there is one slot, as large as the first and the last together.
        """
        if num_images == 0:
            return (self.first + self.last,)
        return (self.first, *[self.middle] * (num_images - 1), self.last)

    def pack(
        self, segments: Sequence[Sequence[int]], num_images: int, pad_id: int = 0
    ) -> PackedText:
        """Returns the segments of token ids in the slots of a condition with `num_images` images.

        Segment k starts at slot k.  The last segment may use all remaining slots: a text without
        images, in a condition that has slots for them, may fill all text slots.

        Raises:
          UserError: a segment exceeds its capacity.
          ValueError: there are no segments, or more segments than slots.
        """
        capacities = self.capacities(num_images)
        if not 1 <= len(segments) <= len(capacities):
            raise ValueError(f"{len(segments)} text segments for {len(capacities)} slots")
        starts = (0, *accumulate(capacities))
        ends = (*starts[1 : len(segments)], starts[-1])
        tokens = np.full(starts[-1], pad_id, np.int32)
        valid = np.zeros(starts[-1], bool)
        for k, (segment, start, end) in enumerate(zip(segments, starts, ends, strict=False)):
            if (surplus := len(segment) - (end - start)) > 0:
                raise UserError(
                    f"the text {_place(k, len(segments))} has {len(segment)} tokens, {surplus} "
                    f"more than the limit of {end - start}: shorten the prompt or raise text_slots"
                )
            tokens[start : start + len(segment)] = segment
            valid[start : start + len(segment)] = True
        return PackedText(tokens, valid)


def _place(k: int, num_segments: int) -> str:
    if num_segments == 1:
        return "without images"
    if k == 0:
        return "before the first image"
    if k == num_segments - 1:
        return "after the last image"
    return f"between images {k} and {k + 1}"
