"""From a task's example to the arrays the model takes."""

import dataclasses

import numpy as np

from ditfuse_jax.checks import check_fraction
from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.bad_records import BadRecordBudget
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.sources import Source
from ditfuse_jax.prompts import (
    CONDITION_DROPPED,
    TextSlots,
    encode_prompt,
    load_tokenizer,
    without_tags,
)
from ditfuse_jax.tasks import Example, find_task

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ExampleEncoder:
    """Turns examples into arrays.

    Attributes:
      slots: capacities of the text slots.
      tokenizer: folder of the tokenizer, None for the shipped one.
      condition_dropout: share of examples that lose instruction and images (DESIGN section 2).
      tag_dropout: share of examples whose tags are those of a sentence that a user types, so that
        nothing but its words tell what is wanted.
    """

    slots: TextSlots
    tokenizer: str | None = None
    condition_dropout: float = 0.0
    tag_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_fraction("data.condition_dropout", self.condition_dropout)
        check_fraction("data.tag_dropout", self.tag_dropout)

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
        prompt = example.prompt
        if self.tag_dropout and rng.random() < self.tag_dropout:
            prompt = without_tags(prompt)
        encoded = encode_prompt(tokenizer, prompt, count, self.slots)
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
class LoadAndEncode:
    """grain's random map: number of a source's item -> arrays of one example.

    An item that cannot be used is passed over for the next one, if the tolerance allows it: the
    example is still a function of the number, the generator and the files alone.

    Attributes:
      source: of images.
      task: see `find_task`.
      crop: (height, width).
      encoder: example -> arrays.
      tolerance: of bad items.
    """

    source: Source
    task: str
    crop: tuple[int, int]
    encoder: ExampleEncoder
    tolerance: BadRecordBudget

    def __call__(self, number: int, rng: np.random.Generator) -> Arrays:
        for distance in range(len(self.source)):
            item = (number + distance) % len(self.source)
            try:
                example, moments = self._make(item, rng)
                break
            except UserError as error:
                self.tolerance.accept(self.source.names[item], error)
        else:
            raise UserError(f"{self.tolerance.source} holds no record that can be used")
        arrays = self.encoder(example, rng)
        if moments is not None:
            arrays["target_moments"] = moments
        return arrays

    def _make(self, item: int, rng: np.random.Generator) -> tuple[Example, np.ndarray | None]:
        if not isinstance(self.source, PackedSource) or self.source.moments is None:
            return find_task(self.task)(self.source[item], rng, self.crop), None
        images, moments = self.source.read(item)
        example = find_task(self.task)(images, rng, None)
        if example.target is not images[0]:
            raise UserError(
                f"task {self.task!r} does not aim at the photograph itself, whose moments "
                f"{self.source.folder} holds: use a task that does (m3, mff), or pack photographs"
            )
        return example, moments
