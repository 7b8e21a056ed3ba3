"""Infrared-visible fusion on registered pairs, towards a pseudo-target."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.checks import check_fraction
from ditfuse_jax.degrade import PSEUDO_TARGETS, misalign
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled_with_roles


@dataclasses.dataclass(frozen=True)
class IVIF:
    """Sources: the pair in random order.

    Attributes:
      target: a name in `degrade.PSEUDO_TARGETS`, of the registered pair.
      misalign: probability that the infrared image is then moved and bent a little; see
        `degrade.misalign`.
    """

    target: str = "mean"
    misalign: float = 0.0
    num_images: int = dataclasses.field(default=2, init=False)

    def __post_init__(self) -> None:
        PSEUDO_TARGETS.find(self.target)
        check_fraction("misalign", self.misalign)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        visible, infrared = random_crop_and_flip(images, rng, crop, vertical_flip=False)
        target = PSEUDO_TARGETS.find(self.target)((visible, infrared))
        instruction = draw_instruction(instructions("ivif"), rng)
        prompt = task_prompt("FUSION", "MULTI-MODALITIES", instruction)
        if self.misalign and rng.random() < self.misalign:
            infrared, _ = misalign(infrared, rng)
        sources, roles = shuffled_with_roles((visible, infrared), ("visible", "infrared"), rng)
        return Example(sources, prompt, target, roles)
