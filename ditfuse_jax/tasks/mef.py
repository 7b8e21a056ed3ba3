"""Multi-exposure fusion from single photographs: a darker and a brighter exposure."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import PSEUDO_TARGETS, exposure_pair
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled_with_roles


@dataclasses.dataclass(frozen=True)
class MEF:
    """Sources: a crop of the photograph, under- and overexposed, in random order.

    Attributes:
      target: a name in `degrade.PSEUDO_TARGETS`, applied to the exposures; None for the photograph.
    """

    target: str | None = None
    num_images: int = dataclasses.field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.target is not None:
            PSEUDO_TARGETS.find(self.target)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        (clean,) = random_crop_and_flip(images, rng, crop, vertical_flip=False)
        pair = exposure_pair(clean, rng)
        prompt = task_prompt("FUSION", "MULTI-EXPOSURE", draw_instruction(instructions("mef"), rng))
        exposures = (pair.under, pair.over)
        target = clean if self.target is None else PSEUDO_TARGETS.find(self.target)(exposures)
        sources, roles = shuffled_with_roles(exposures, ("under", "over"), rng)
        return Example(sources, prompt, target, roles)
