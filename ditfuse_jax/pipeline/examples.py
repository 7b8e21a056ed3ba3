"""Encodes a task's examples into the arrays that the model takes."""

import dataclasses

import grain
import numpy as np

from ditfuse_jax.checks import check_fraction
from ditfuse_jax.errors import ContractError, UserError
from ditfuse_jax.pipeline.access import DataAccessError
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
from ditfuse_jax.tasks import Example, Task

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ExampleEncoder:
    """Encodes examples; text is tokenized, images stay uint8.

    Attributes:
      slots: capacities of the text slots.
      tokenizer: folder of the tokenizer, None for the bundled one.
      condition_dropout: probability that an example loses its instruction and its images, for
        classifier-free guidance (Ho and Salimans 2022).
      tag_dropout: probability that the prompt's tags are replaced by those of a plain sentence, so
        that the model learns to follow the instruction's text alone.
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
        if dropped:  # with the prompt's number of slots: all examples of a batch have one shape
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
class LoadAndEncode(grain.transforms.RandomMap):
    """grain's random map from the index of a source's item to the arrays of one example.

    An item that cannot be used is replaced by the next one, within the budget: the example is
    still a function of the index, the generator and the files alone.

    Attributes:
      source: of images.
      task: makes the example.
      crop: (height, width).
      encoder: example -> arrays.
      bad_records: limits how many items may be unusable.
    """

    source: Source
    task: Task
    crop: tuple[int, int]
    encoder: ExampleEncoder
    bad_records: BadRecordBudget

    def random_map(self, element: int, rng: np.random.Generator) -> Arrays:
        """Returns the arrays of `ExampleEncoder`, and `target_moments` where they are packed.

        Raises:
          UserError: too many items are unusable, or a prompt does not fit; `DataAccessError` if
            the data could not be read.
          ContractError: the task or what it uses is wrong, whatever the item.
        """
        for distance in range(len(self.source)):
            item = (element + distance) % len(self.source)
            try:
                example, moments = self._make(item, rng)
                break
            except DataAccessError:  # the record may be good: it must not be skipped
                raise
            except ContractError as error:
                raise ContractError(f"task {type(self.task).__name__}: {error}") from error
            except UserError as error:
                self.bad_records.add(self.source.names[item], error)
        else:
            raise UserError(f"{self.bad_records.source} holds no usable record")
        arrays = self.encoder(example, rng)
        if moments is not None:
            arrays["target_moments"] = moments
        return arrays

    def _make(self, item: int, rng: np.random.Generator) -> tuple[Example, np.ndarray | None]:
        if not isinstance(self.source, PackedSource) or self.source.moments is None:
            return self.task(self.source[item], rng, self.crop), None
        images, moments = self.source.read(item)
        example = self.task(images, rng, None)
        if example.target is not images[0]:
            raise UserError(
                f"{self.source.folder} holds the autoencoder's moments of photographs, and the "
                f"target of {self.task} is not the photograph: use m3 or mff, or pack photographs "
                "without --autoencoder"
            )
        return example, moments
