"""Control of brightness and contrast: another task's examples with a changed tone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import TONES, adjust_tone
from ditfuse_jax.prompts import instructions, join_instructions, task_prompt
from ditfuse_jax.tasks.example import Example, Task, draw_instruction

# Tag -> instruction pool: LIGHT++ is light_plus_plus.
POOLS = {tag: tag.lower().replace("+", "_plus").replace("-", "_minus") for tag in TONES}
_CONTROL_ONLY = 1 / 3  # probability of an instruction without the fusion sentence


@dataclasses.dataclass(frozen=True)
class Control:
    """The examples of `base`, with the target's tone changed by one of six levels, drawn uniformly.

    The instruction is a fusion sentence followed by one that asks for the level, or the latter
    alone; see docs/method.md, Tasks.
    """

    base: Task

    @property
    def num_images(self) -> int:
        return self.base.num_images

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        fused = self.base(images, rng, crop)
        tag = TONES[int(rng.integers(len(TONES)))]
        sentences = [draw_instruction(instructions(pool), rng) for pool in ("fusion", POOLS[tag])]
        sentence = sentences[1] if rng.random() < _CONTROL_ONLY else join_instructions(*sentences)
        prompt = task_prompt("CONTROL", tag, sentence, len(fused.sources))
        return Example(fused.sources, prompt, adjust_tone(fused.target, tag))
