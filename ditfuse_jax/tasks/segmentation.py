"""Segmentation by words: the scene with a colour over the class that the instruction names."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import PRESETS, M3Config, degrade_views, overlay
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_view
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled

# The classes of CamVid's usual eleven, by label, each with words people use for them.
STREET_CLASSES: tuple[tuple[str, ...], ...] = (
    ("sky",),
    ("building", "buildings", "house"),
    ("pole", "poles"),
    ("road", "street"),
    ("pavement", "sidewalk"),
    ("tree", "trees", "vegetation"),
    ("sign", "traffic sign"),
    ("fence",),
    ("car", "cars", "vehicle"),
    ("pedestrian", "pedestrians", "people"),
    ("cyclist", "bicycle"),
)
_LEAST_SHARE = 0.005  # of the crop, or a class counts as too small to be asked for
_IGNORED = 255
_ABSENT = 0.15  # share of examples that ask for what is not there


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Sources: two M3 views of a labelled image; target: the image with the class overlaid.

    A class that is not in the crop leaves the image as it is.  The label after the last class, and
    255, are void.
    """

    classes: tuple[tuple[str, ...], ...] = STREET_CLASSES
    config: M3Config = PRESETS["paper"]
    num_images: int = dataclasses.field(default=2, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """See `Task`; `images` are the scene and its labels, a label's number in all channels."""
        clean, coded = random_view(images, rng, crop, upside_down=False, labels=(1,))
        labels = coded[..., 0]
        check_labels(labels, self.classes)
        views = degrade_views(clean, rng, self.config)
        wanted = self._draw_class(labels, rng)
        names = self.classes[wanted]
        sentence = draw_instruction(instructions("segmentation"), rng)
        sentence = sentence.replace("{class}", names[int(rng.integers(len(names)))])
        return Example(
            shuffled((views.view_a, views.view_b), rng),
            task_prompt("SEG", None, sentence),
            overlay(clean, labels == wanted),
        )

    def _draw_class(self, labels: np.ndarray, rng: np.random.Generator) -> int:
        counts = np.bincount(labels.ravel(), minlength=256)[: len(self.classes)]
        present = np.flatnonzero(counts >= _LEAST_SHARE * labels.size)
        absent = np.flatnonzero(counts == 0)
        ask_absent = rng.random() < _ABSENT
        pool = absent if (ask_absent and len(absent)) or not len(present) else present
        if not len(pool):  # nothing but specks
            pool = np.flatnonzero(counts)
        return int(pool[int(rng.integers(len(pool)))])


def check_labels(labels: np.ndarray, classes: Sequence[tuple[str, ...]]) -> None:
    """Refuses label numbers (H, W) that stand for no class and are not void.

    Raises:
      UserError: with the first such number.
    """
    void = len(classes)
    unknown = np.unique(labels[(labels > void) & (labels != _IGNORED)])
    if len(unknown):
        raise UserError(
            f"labels hold class {int(unknown[0])}, but only 0 to {void - 1} have names "
            f"({void} and {_IGNORED} are void): map the labels to these classes"
        )
