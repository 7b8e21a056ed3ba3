"""Multi-exposure fusion from single photographs: a darker and a brighter exposure."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import exposure_pair
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_view
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled


@dataclasses.dataclass(frozen=True)
class MEF:
    """Target: a crop of the photograph; sources: under- and overexposed, in random order."""

    num_images: int = dataclasses.field(default=1, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        (clean,) = random_view(images, rng, crop, upside_down=False)
        pair = exposure_pair(clean, rng)
        prompt = task_prompt("FUSION", "MULTI-EXPOSURE", draw_instruction(instructions("mef"), rng))
        return Example(shuffled((pair.under, pair.over), rng), prompt, clean)
