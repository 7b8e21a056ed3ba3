"""Segmentation by text: the target marks the class that the instruction names with a colour."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.degrade import overlay, overlay_all
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import check_same_size
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled
from ditfuse_jax.tasks.street_views import StreetViews

# The usual eleven classes of CamVid by label, each with its names.
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
_VIEWS = StreetViews({"clean": 1.0, "m3": 1.0})
_MIN_AREA = 0.005  # fraction of the image below which a class is not asked for
_IGNORED = 255
_ABSENT = 0.08  # probability of asking for a class that is absent
_FULL_SCENE = 0.5  # probability of a crop that covers as much of the scene as possible


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Sources: two views of a labelled image; target: their fusion with the class overlaid.

    If the class is not in the crop, the target is the fusion.  The label after the last class, and
    255, are void.

    Attributes:
      views: how the views are drawn; by default the image itself twice or two M3 views.
      classes: the names of each class, by label.
    """

    views: StreetViews = _VIEWS
    classes: tuple[tuple[str, ...], ...] = STREET_CLASSES
    num_images: int = dataclasses.field(default=2, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """See `Task`; `images` are the scene and its labels, the class number in all channels."""
        scene, coded = images
        check_same_size(images, ("the scene", "its labels"))
        check_labels(coded[..., 0], self.classes)
        wanted = self._draw_class(coded[..., 0], rng)
        # Degraded before downscaling, like a downscaled photograph of a degraded scene.
        names = [names[0] for names in self.classes]
        views, _, fused = self.views.draw(scene, coded[..., 0], names, rng)
        *views, fused, coded = random_crop_and_flip(
            (*views, fused, coded),
            rng,
            crop,
            vertical_flip=False,
            labels=(3,),
            full_scene_probability=_FULL_SCENE,
            containing=_some_pixel(coded[..., 0] == wanted, rng),
        )
        sources = shuffled(views, rng)
        sentence, target = self._show(fused, coded[..., 0], wanted, rng)
        return Example(sources, task_prompt("SEG", None, sentence), target)

    def _show(
        self, fused: np.ndarray, labels: np.ndarray, wanted: int, rng: np.random.Generator
    ) -> tuple[str, np.ndarray]:
        """Returns the instruction and the target."""
        names = self.classes[wanted]
        sentence = draw_instruction(instructions("segmentation"), rng)
        sentence = sentence.replace("{class}", names[int(rng.integers(len(names)))])
        return sentence, overlay(fused, labels == wanted)

    def _draw_class(self, labels: np.ndarray, rng: np.random.Generator) -> int:
        counts = np.bincount(labels.ravel(), minlength=256)[: len(self.classes)]
        present = np.flatnonzero(counts >= _MIN_AREA * labels.size)
        absent = np.flatnonzero(counts == 0)
        if len(absent) and (rng.random() < _ABSENT or not len(present)):
            return int(rng.choice(absent))
        if not len(present):  # only small regions
            present = np.flatnonzero(counts)
        # Large classes are drawn more often, but much less than in proportion to their areas.
        shares = counts[present] ** 0.25
        return int(rng.choice(present, p=shares / shares.sum()))


@dataclasses.dataclass(frozen=True)
class SceneMap(Segmentation):
    """Marks every class with its colour, so that all labels of a scene are used."""

    def _show(
        self, fused: np.ndarray, labels: np.ndarray, wanted: int, rng: np.random.Generator
    ) -> tuple[str, np.ndarray]:
        return draw_instruction(instructions("scene"), rng), overlay_all(fused, labels)


def _some_pixel(where: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """Returns (row, column) of a random True pixel of bool (H, W), or None."""
    found = np.flatnonzero(where)
    if not len(found):
        return None
    row, column = divmod(int(rng.choice(found)), where.shape[1])
    return row, column


def check_labels(labels: np.ndarray, classes: Sequence[tuple[str, ...]]) -> None:
    """Checks that all labels (H, W) are classes or void.

    Raises:
      UserError: naming the first other label.
    """
    void = len(classes)
    unknown = np.unique(labels[(labels > void) & (labels != _IGNORED)])
    if len(unknown):
        raise UserError(
            f"labels hold class {int(unknown[0])}, but only 0 to {void - 1} have names "
            f"({void} and {_IGNORED} are void): map the labels to these classes"
        )
