"""Infrared-visible fusion on registered pairs, towards a pseudo-target."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import PSEUDO_TARGETS
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled_with_roles


@dataclasses.dataclass(frozen=True)
class IVIF:
    """Sources: the pair in random order.

    Attributes:
      target: a name in `degrade.PSEUDO_TARGETS`.
    """

    target: str = "mean"
    num_images: int = dataclasses.field(default=2, init=False)

    def __post_init__(self) -> None:
        PSEUDO_TARGETS.find(self.target)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        pair = random_crop_and_flip(images, rng, crop, vertical_flip=False)
        target = PSEUDO_TARGETS.find(self.target)(pair)
        instruction = draw_instruction(instructions("ivif"), rng)
        prompt = task_prompt("FUSION", "MULTI-MODALITIES", instruction)
        sources, roles = shuffled_with_roles(pair, ("visible", "infrared"), rng)
        return Example(sources, prompt, target, roles)
