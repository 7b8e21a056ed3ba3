"""The sequence of fixed slots: place, attention mask and position of every token.

The sequence is `[text | image 1 | text | image 2 | text | time | target]`; see docs/method.md,
Sequence.  A slot's place does not depend on the prompt, so one compiled program serves all prompts;
the padding inside text slots is data.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ditfuse_jax.model.attention import AttentionMask, Part, Span


@dataclasses.dataclass(frozen=True)
class Slot:
    """Tokens `[start, stop)` of the sequence.

    Attributes:
      kind: "text" or "image".
      index: number of the slot among those of its kind.
      start: first token.
      stop: one past the last token.
    """

    kind: str
    index: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Slots of one condition and of `draws` noisy targets that do not attend to each other.

    Attributes:
      text: capacities of the text slots, one more than there are images.
      grid: (rows, columns) of patches of every image and of the target.
      draws: number of targets that share the condition (K).
    """

    text: tuple[int, ...]
    grid: tuple[int, int]
    draws: int = 1

    @property
    def num_images(self) -> int:
        return len(self.text) - 1

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def condition_length(self) -> int:
        return sum(self.text) + self.num_images * self.num_patches

    @property
    def draw_length(self) -> int:
        """Tokens of one draw: the time token and the target."""
        return 1 + self.num_patches

    @property
    def length(self) -> int:
        return self.condition_length + self.draws * self.draw_length

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The condition's slots in order."""
        slots, start = [], 0
        for index, capacity in enumerate(self.text):
            if index > 0:
                slots.append(Slot("image", index - 1, start, start + self.num_patches))
                start += self.num_patches
            slots.append(Slot("text", index, start, start + capacity))
            start += capacity
        return tuple(slots)

    @functools.cached_property
    def condition_mask(self) -> AttentionMask:
        """The mask within the condition: causal, bidirectional inside an image."""
        parts = tuple(
            Part(slot.start, slot.stop, ((0, slot.stop),), causal_tail=slot.kind == "text")
            for slot in self.slots
        )
        return AttentionMask(parts, num_keys=self.condition_length)

    @functools.cached_property
    def draw_mask(self) -> AttentionMask:
        """The mask with one draw as queries, the condition and the draw as keys (sampling)."""
        return AttentionMask(self._draw_parts(0, 0), self.condition_length + self.draw_length)

    @functools.cached_property
    def full_mask(self) -> AttentionMask:
        """The mask of the whole sequence (training)."""
        parts = list(self.condition_mask.parts)
        for draw in range(self.draws):
            start = self.condition_length + draw * self.draw_length
            parts.extend(self._draw_parts(start, draw))
        return AttentionMask(tuple(parts), num_keys=self.length)

    def _draw_parts(self, query_start: int, draw: int) -> tuple[Part, Part]:
        start = self.condition_length + draw * self.draw_length
        time: Span = (start, start + 1)
        whole: Span = (start, start + self.draw_length)
        condition: Span = (0, self.condition_length)
        if start == self.condition_length:  # adjacent: one run of keys
            time_keys, target_keys = ((0, time[1]),), ((0, whole[1]),)
        else:
            time_keys, target_keys = (condition, time), (condition, whole)
        return (
            Part(query_start, query_start + 1, time_keys),
            Part(query_start + 1, query_start + self.draw_length, target_keys),
        )

    def condition_valid(self, token_valid: jax.Array, image_valid: jax.Array) -> jax.Array:
        """Returns which condition tokens are neither padding nor of an absent image.

        Args:
          token_valid: (B, T) of all text slots joined, False for padding.
          image_valid: (B, n) False where the image is absent (condition dropout, guidance).

        Returns:
          (B, C) boolean.
        """
        texts = self.split_text(token_valid)
        pieces = []
        for slot in self.slots:
            if slot.kind == "text":
                pieces.append(texts[slot.index])
            else:
                shape = (image_valid.shape[0], self.num_patches)
                pieces.append(jnp.broadcast_to(image_valid[:, slot.index, None], shape))
        return jnp.concatenate(pieces, axis=1)

    def split_text(self, joined: jax.Array) -> list[jax.Array]:
        """Splits (B, T, ...) into the text slots."""
        pieces, start = [], 0
        for capacity in self.text:
            pieces.append(joined[:, start : start + capacity])
            start += capacity
        return pieces

    def join(self, texts: jax.Array, images: jax.Array) -> jax.Array:
        """Interleaves embedded text (B, T, D) and images (B, n, P, D) to (B, C, D)."""
        pieces = self.split_text(texts)
        return jnp.concatenate(
            [
                pieces[slot.index] if slot.kind == "text" else images[:, slot.index]
                for slot in self.slots
            ],
            axis=1,
        )

    def positions(self, condition_valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Computes rotary positions, which do not count padding.

        Args:
          condition_valid: (B, C) from `condition_valid`.

        Returns:
          (B, C) positions of the condition and (B, 1 + P) of a draw; all draws have the same.
        """
        count = jnp.cumsum(condition_valid.astype(jnp.int32), axis=1)
        draw = count[:, -1:] + jnp.arange(self.draw_length, dtype=jnp.int32)
        return jnp.maximum(count - 1, 0), draw
