"""Multi-focus fusion from single photographs: two focus settings of a scene of two layers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import focus_pair
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled_with_roles


@dataclasses.dataclass(frozen=True)
class MFF:
    """Target: a crop; sources: its foreground and its background in focus, in random order."""

    num_images: int = dataclasses.field(default=1, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        (clean,) = random_crop_and_flip(images, rng, crop, vertical_flip=True)
        pair = focus_pair(clean, rng)
        prompt = task_prompt("FUSION", "MULTI-FOCUS", draw_instruction(instructions("mff"), rng))
        sources, roles = shuffled_with_roles((pair.near, pair.far), ("near", "far"), rng)
        return Example(sources, prompt, clean, roles)
