"""Fusion of views of labelled street scenes, with the labels."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.images import check_same_size
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled_with_roles
from ditfuse_jax.tasks.segmentation import STREET_CLASSES, check_labels
from ditfuse_jax.tasks.street_views import StreetViews

_VIEWS = StreetViews(
    {"clean": 1.0, "m3": 1.0, "focus": 1.0, "exposure": 1.0, "infrared": 2.0}, augment=0.7
)
_FULL_SCENE = 0.5  # probability of a crop that covers as much of the scene as possible


@dataclasses.dataclass(frozen=True)
class Streets:
    """Sources: two views of a labelled street scene; target: their fusion; with its labels.

    Attributes:
      views: how the views are drawn.
      classes: the names of each class, by label.
    """

    views: StreetViews = _VIEWS
    classes: tuple[tuple[str, ...], ...] = STREET_CLASSES
    num_images: int = dataclasses.field(default=2, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """See `Task`; `images` are the scene and its labels, the class number in all channels."""
        check_same_size(images, ("the scene", "its labels"))
        check_labels(images[1][..., 0], self.classes)
        scene, coded = random_crop_and_flip(
            images,
            rng,
            crop,
            vertical_flip=False,
            labels=(1,),
            full_scene_probability=_FULL_SCENE,
        )
        labels = coded[..., 0]
        names = [names[0] for names in self.classes]
        views, roles, target = self.views.draw(scene, labels, names, rng)
        sources, roles = shuffled_with_roles(views, roles, rng)
        prompt = task_prompt("FUSION", None, draw_instruction(instructions("fusion"), rng))
        return Example(sources, prompt, target, roles, labels)
