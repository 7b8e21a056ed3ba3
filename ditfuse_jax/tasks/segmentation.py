"""Segmentation by words: the scene with a colour over the class that the instruction names."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import M3_PRESETS, M3Config, degrade_views, overlay, overlay_all
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
_ABSENT = 0.08  # share of examples that ask for what is not there
_WHOLE = 0.5  # share of examples that show as much of the scene as the crop's shape allows


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Sources: two M3 views of a labelled image; target: the image with the class overlaid.

    A class that is not in the crop leaves the image as it is.  The label after the last class, and
    255, are void.

    Attributes:
      clean_probability: probability that both views are the undamaged image.
    """

    classes: tuple[tuple[str, ...], ...] = STREET_CLASSES
    config: M3Config = M3_PRESETS["paper"]
    clean_probability: float = 0.5
    num_images: int = dataclasses.field(default=2, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """See `Task`; `images` are the scene and its labels, a label's number in all channels."""
        scene, coded = images
        check_same_size(images, ("the scene", "its labels"))
        check_labels(coded[..., 0], self.classes)
        wanted = self._draw_class(coded[..., 0], rng)
        # Damaged before it is seen from afar, as an overview of a damaged scene is.
        damaged = (scene, scene)
        if rng.random() >= self.clean_probability:
            views = degrade_views(scene, rng, self.config)
            damaged = (views.view_a, views.view_b)
        *damaged, clean, coded = random_view(
            (*damaged, scene, coded),
            rng,
            crop,
            vertical_flip=False,
            labels=(3,),
            full_scene_probability=_WHOLE,
            around=_some_pixel(coded[..., 0] == wanted, rng),
        )
        sources = shuffled(damaged, rng)
        sentence, target = self._show(clean, coded[..., 0], wanted, rng)
        return Example(sources, task_prompt("SEG", None, sentence), target)

    def _show(
        self, clean: np.ndarray, labels: np.ndarray, wanted: int, rng: np.random.Generator
    ) -> tuple[str, np.ndarray]:
        """The sentence and the target."""
        names = self.classes[wanted]
        sentence = draw_instruction(instructions("segmentation"), rng)
        sentence = sentence.replace("{class}", names[int(rng.integers(len(names)))])
        return sentence, overlay(clean, labels == wanted)

    def _draw_class(self, labels: np.ndarray, rng: np.random.Generator) -> int:
        counts = np.bincount(labels.ravel(), minlength=256)[: len(self.classes)]
        present = np.flatnonzero(counts >= _LEAST_SHARE * labels.size)
        absent = np.flatnonzero(counts == 0)
        if len(absent) and (rng.random() < _ABSENT or not len(present)):
            return int(rng.choice(absent))
        if not len(present):  # nothing but specks
            present = np.flatnonzero(counts)
        # Large classes more often, though much less than their areas: all are asked for in use.
        shares = counts[present] ** 0.25
        return int(rng.choice(present, p=shares / shares.sum()))


@dataclasses.dataclass(frozen=True)
class SceneMap(Segmentation):
    """Every class in a colour of its own: all labels of a scene teach, not those of one class."""

    def _show(
        self, clean: np.ndarray, labels: np.ndarray, wanted: int, rng: np.random.Generator
    ) -> tuple[str, np.ndarray]:
        return draw_instruction(instructions("scene"), rng), overlay_all(clean, labels)


def _some_pixel(where: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """Row and column of a random pixel of bool (H, W), None where there is none."""
    found = np.flatnonzero(where)
    if not len(found):
        return None
    row, column = divmod(int(rng.choice(found)), where.shape[1])
    return row, column


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
