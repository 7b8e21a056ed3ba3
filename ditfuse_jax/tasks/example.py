"""Training examples, and the interface of tasks."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ditfuse_jax.errors import ContractError


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One training example.

    Attributes:
      sources: the condition images, `uint8 (H, W, 3)` each, in the order of the placeholders.
      prompt: tags, one placeholder per source, instruction; without the chat frame.
      target: the image to generate, `uint8 (H, W, 3)`.
      roles: of the sources, in their order: names of `prompts.requests.ROLES`; empty if unknown.
      labels: the class number of each pixel, `uint8 (H, W)`; None if unknown.

    Raises:
      ContractError: an image is not `uint8 (H, W, 3)`.
    """

    sources: tuple[np.ndarray, ...]
    prompt: str
    target: np.ndarray
    roles: tuple[str, ...] = ()
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_image("target", self.target)
        for number, source in enumerate(self.sources, 1):
            _check_image(f"source {number}", source)


def _check_image(name: str, image: np.ndarray) -> None:
    got = type(image).__name__
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
            return
        got = f"{image.dtype} {image.shape}"
    raise ContractError(f"an example's {name} must be a uint8 array (H, W, 3), got {got}")


class PromptedImages(tuple[np.ndarray, ...]):
    """A tuple of images with the prompt of their example."""

    prompt: str

    def __new__(cls, images: Sequence[np.ndarray], prompt: str) -> "PromptedImages":
        made = super().__new__(cls, images)
        made.prompt = prompt
        return made

    def __getnewargs__(self) -> tuple[tuple[np.ndarray, ...], str]:
        return tuple(self), self.prompt


class Task(Protocol):
    """Makes examples; equal images and generator states give equal examples.

    Tasks are pickled for data workers.  If a task is a dataclass, its fields are options in recipes
    (`make_task`).
    """

    @property
    def num_images(self) -> int:
        """The number of images, registered to each other, that one example is made from."""
        ...

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """Returns an example of size `crop` (height, width) from `uint8 (H, W, 3)` images.

        Without `crop` the images are used as they are, neither cropped nor flipped.
        """
        ...


def draw_instruction(pool: Sequence[str], rng: np.random.Generator) -> str:
    """Draws one sentence of a pool uniformly."""
    return pool[int(rng.integers(len(pool)))]


def shuffled_with_roles(
    sources: Sequence[np.ndarray], roles: Sequence[str], rng: np.random.Generator
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...]]:
    """Returns the sources in random order, and their roles, if they have any, in the same order."""
    order = rng.permutation(len(sources))
    ordered: list[str] = [roles[int(index)] for index in order] if roles else []
    return tuple(sources[index] for index in order), tuple(ordered)


def shuffled(sources: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Returns the sources in random order, so that their role is not learnt from their position."""
    return tuple(sources[index] for index in rng.permutation(len(sources)))
