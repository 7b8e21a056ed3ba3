"""One training example, and what a task is."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """What the model is given and what it shall make of it.

    Attributes:
      sources: the condition images, `uint8 (H, W, 3)` each, in the order of the placeholders.
      prompt: tags, one placeholder per source, instruction; without the chat frame.
      target: `uint8 (H, W, 3)`.
    """

    sources: tuple[np.ndarray, ...]
    prompt: str
    target: np.ndarray


class PromptedImages(tuple[np.ndarray, ...]):
    """Images that bring the prompt of their example with them; otherwise a tuple like any other."""

    prompt: str

    def __new__(cls, images: Sequence[np.ndarray], prompt: str) -> "PromptedImages":
        made = super().__new__(cls, images)
        made.prompt = prompt
        return made

    def __getnewargs__(self) -> tuple[tuple[np.ndarray, ...], str]:
        return tuple(self), self.prompt


class Task(Protocol):
    """Makes examples; equal images and generator states give equal examples."""

    @property
    def num_images(self) -> int:
        """How many images, registered to each other, one example is made from."""
        ...

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """Returns an example of size `crop` (height, width) from `uint8 (H, W, 3)` images.

        Without `crop` the images are taken as they are, neither cut nor mirrored.
        """
        ...


def draw_instruction(pool: Sequence[str], rng: np.random.Generator) -> str:
    """Returns one sentence of a pool, each as likely."""
    return pool[int(rng.integers(len(pool)))]


def shuffled(sources: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Returns the sources in random order, so that none is learnt from its place."""
    return tuple(sources[index] for index in rng.permutation(len(sources)))
