"""Examples whose sources, target and prompt come from the data."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.tasks.crop import random_crop
from ditfuse_jax.tasks.example import Example, PromptedImages


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples from `PromptedImages`: the sources in order, then the target.

    The sources keep their order and nothing is flipped, since a prompt may say "the first image" or
    "on the left".

    Attributes:
      num_sources: number of source images.
    """

    num_sources: int = 2

    @property
    def num_images(self) -> int:
        return self.num_sources + 1

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """See `Task`.

        Raises:
          UserError: the images have no prompt, or differ in size.
        """
        if not isinstance(images, PromptedImages):
            raise UserError("task 'records' needs prompts with its images: give records:FILE")
        window = images if crop is None else random_crop(images, rng, crop)
        *sources, target = map(np.ascontiguousarray, window)
        return Example(tuple(sources), images.prompt, target)
