"""Brightness and contrast on demand, over any task: its target in another tone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import TONES, adjust_tone
from ditfuse_jax.prompts import instructions, join_instructions, task_prompt
from ditfuse_jax.tasks.example import Example, Task, draw_instruction

# Tag -> instruction pool: LIGHT++ is light_plus_plus.
POOLS = {tag: tag.lower().replace("+", "_plus").replace("-", "_minus") for tag in TONES}
_ALONE = 1 / 3  # share of examples without the fusion sentence


@dataclasses.dataclass(frozen=True)
class Control:
    """The examples of `base` with a target adjusted by a level, each of six as likely.

    The instruction is a fusion sentence and one that asks for the level, or the latter alone, as
    people type it; see docs/method.md, Tasks.
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
        words = [draw_instruction(instructions(pool), rng) for pool in ("fusion", POOLS[tag])]
        sentence = words[1] if rng.random() < _ALONE else join_instructions(*words)
        prompt = task_prompt("CONTROL", tag, sentence, len(fused.sources))
        return Example(fused.sources, prompt, adjust_tone(fused.target, tag))
