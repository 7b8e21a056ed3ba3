"""From a task's example to the arrays the model takes."""

import dataclasses

import numpy as np

from ditfuse_jax.prompts import CONDITION_DROPPED, TextSlots, encode_prompt, load_tokenizer
from ditfuse_jax.tasks import TASKS, Example

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Turns examples into arrays.

    Attributes:
      slots: capacities of the text slots.
      tokenizer: folder of the tokenizer, None for the shipped one.
      condition_dropout: share of examples that lose instruction and images (DESIGN section 2).
    """

    slots: TextSlots
    tokenizer: str | None = None
    condition_dropout: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Arrays:
        """Encodes one example.

        Returns:
          `images` uint8 (n, H, W, 3), one for each image slot, `target` uint8 (H, W, 3), `tokens`
          int32 (T,), `token_valid` bool (T,), `image_valid` bool (n,).

        Raises:
          UserError: the prompt does not fit its slots.
        """
        dropped = rng.random() < self.condition_dropout
        tokenizer, count = load_tokenizer(self.tokenizer), len(example.sources)
        encoded = encode_prompt(tokenizer, example.prompt, count, self.slots)
        if dropped:  # in the slots of its prompt: examples of one batch are of one shape
            num_slots = len(encoded.order)
            encoded = encode_prompt(tokenizer, CONDITION_DROPPED, count, self.slots, num_slots)
        return {
            "images": np.stack([example.sources[k] for k in encoded.order]),
            "target": example.target,
            "tokens": encoded.tokens,
            "token_valid": encoded.valid,
            "image_valid": encoded.image_valid,
        }


@dataclasses.dataclass(frozen=True)
class MakeExample:
    """grain's random map: images of a source -> arrays of one example."""

    task: str
    crop: tuple[int, int]
    encoder: Encoder

    def __call__(self, images: tuple[np.ndarray, ...], rng: np.random.Generator) -> Arrays:
        return self.encoder(TASKS[self.task](images, rng, self.crop), rng)
