"""Self-supervision on single photographs: restore the clean one from two damaged views."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import M3_PRESETS, M3Config, degrade_views
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_view
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled


@dataclasses.dataclass(frozen=True)
class M3:
    """Target: a crop of the photograph; sources: two M3 views of it; no subtask in the prompt.

    The instruction is a sentence of the named pools, each sentence as likely.
    """

    config: M3Config = M3_PRESETS["paper"]
    pools: tuple[str, ...] = ("fusion",)
    num_images: int = dataclasses.field(default=1, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        (clean,) = random_view(images, rng, crop, vertical_flip=True)
        views = degrade_views(clean, rng, self.config)
        sentences = [sentence for pool in self.pools for sentence in instructions(pool)]
        prompt = task_prompt("FUSION", None, draw_instruction(sentences, rng))
        return Example(shuffled((views.view_a, views.view_b), rng), prompt, clean)
