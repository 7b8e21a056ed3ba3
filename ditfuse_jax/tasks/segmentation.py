"""Segmentation by words: the scene with a colour over the class that the instruction names."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import PRESETS, M3Config, degrade_views, overlay
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import check_same_size
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
_WHOLE = 0.5  # share of examples that show as much of the scene as the crop's shape allows


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
        scene, coded = images
        check_same_size(images, ("the scene", "its labels"))
        check_labels(coded[..., 0], self.classes)
        # Damaged before it is seen from afar, as an overview of a damaged scene is.
        views = degrade_views(scene, rng, self.config)
        damaged = (views.view_a, views.view_b)
        *damaged, clean, coded = random_view(
            (*damaged, scene, coded),
            rng,
            crop,
            upside_down=False,
            labels=(3,),
            whole_share=_WHOLE,
        )
        labels = coded[..., 0]
        wanted = self._draw_class(labels, rng)
        names = self.classes[wanted]
        sentence = draw_instruction(instructions("segmentation"), rng)
        sentence = sentence.replace("{class}", names[int(rng.integers(len(names)))])
        return Example(
            shuffled(damaged, rng),
            task_prompt("SEG", None, sentence),
            overlay(clean, labels == wanted),
        )

    def _draw_class(self, labels: np.ndarray, rng: np.random.Generator) -> int:
        counts = np.bincount(labels.ravel(), minlength=256)[: len(self.classes)]
        present = np.flatnonzero(counts >= _LEAST_SHARE * labels.size)
        absent = np.flatnonzero(counts == 0)
        if len(absent) and (rng.random() < _ABSENT or not len(present)):
            return int(rng.choice(absent))
        if not len(present):  # nothing but specks
            present = np.flatnonzero(counts)
        # Large classes more often, though less than their areas: there is more to learn from them.
        shares = np.sqrt(counts[present])
        return int(rng.choice(present, p=shares / shares.sum()))


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
