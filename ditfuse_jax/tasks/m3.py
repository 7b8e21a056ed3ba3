"""Self-supervision on single photographs: restore the clean image from two degraded views."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.checks import check_fraction
from ditfuse_jax.degrade import M3_PRESETS, M3Config, degrade_views, misalign
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled


@dataclasses.dataclass(frozen=True)
class M3:
    """Target: a crop of the photograph; sources: two M3 views of it; no subtask in the prompt.

    Attributes:
      config: how the views are degraded.
      pools: instruction pools; a sentence is drawn uniformly from all of them.
      misalign: probability that the second source is moved and bent a little; see
        `degrade.misalign`.  The first one lies where the target does.
    """

    config: M3Config = M3_PRESETS["paper"]
    pools: tuple[str, ...] = ("fusion",)
    misalign: float = 0.0
    num_images: int = dataclasses.field(default=1, init=False)

    def __post_init__(self) -> None:
        check_fraction("misalign", self.misalign)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        (clean,) = random_crop_and_flip(images, rng, crop, vertical_flip=True)
        views = degrade_views(clean, rng, self.config)
        sentences = [sentence for pool in self.pools for sentence in instructions(pool)]
        prompt = task_prompt("FUSION", None, draw_instruction(sentences, rng))
        first, second = shuffled((views.view_a, views.view_b), rng)
        if self.misalign and rng.random() < self.misalign:
            second, _ = misalign(second, rng)
        return Example((first, second), prompt, clean)
