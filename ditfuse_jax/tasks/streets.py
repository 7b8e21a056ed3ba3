"""Fusion of views of labelled street scenes, with the labels."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ditfuse_jax.checks import check_fraction
from ditfuse_jax.degrade import (
    M3_PRESETS,
    PSEUDO_TARGETS,
    M3Config,
    degrade_views,
    exposure_pair,
    focus_pair,
)
from ditfuse_jax.degrade.defects import vary_light
from ditfuse_jax.degrade.simulated_infrared import at_night, simulated_infrared
from ditfuse_jax.images import check_same_size
from ditfuse_jax.prompts import instructions, task_prompt
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.tasks.example import Example, draw_instruction, shuffled_with_roles
from ditfuse_jax.tasks.segmentation import STREET_CLASSES, check_labels

# Kind of views -> relative frequency.
_KINDS = {"clean": 1.0, "m3": 1.0, "focus": 1.0, "exposure": 1.0, "infrared": 2.0}
_FULL_SCENE = 0.5  # probability of a crop that covers as much of the scene as possible


@dataclasses.dataclass(frozen=True)
class Streets:
    """Sources: two views of a labelled street scene; target: their fusion; with its labels.

    The views are the scene itself twice, M3 views, two focuses, two exposures, or the scene (half
    of the times at night) and a simulated thermal image.

    Attributes:
      kinds: relative frequency of `clean`, `m3`, `focus`, `exposure` and `infrared`.
      m3: how M3 views are degraded.
      target: a name in `degrade.PSEUDO_TARGETS`, of the infrared kind.
      augment: probability that light, colours and weather of the scene are varied first.
      classes: the names of each class, by label.
    """

    kinds: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(_KINDS))
    m3: M3Config = M3_PRESETS["paper"]
    target: str = "detail"
    augment: float = 0.7
    classes: tuple[tuple[str, ...], ...] = STREET_CLASSES
    num_images: int = dataclasses.field(default=2, init=False)

    def __post_init__(self) -> None:
        PSEUDO_TARGETS.find(self.target)
        check_fraction("augment", self.augment)

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
        if rng.random() < self.augment:
            scene = vary_light(scene, rng)
        shares = np.array(list(self.kinds.values()))
        kind = list(self.kinds)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        views, roles, target = self._views(kind, scene, labels, rng)
        sources, roles = shuffled_with_roles(views, roles, rng)
        prompt = task_prompt("FUSION", None, draw_instruction(instructions("fusion"), rng))
        return Example(sources, prompt, target, roles, labels)

    def _views(
        self, kind: str, scene: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], np.ndarray]:
        """Returns two views, their roles and the target."""
        if kind == "m3":
            views = degrade_views(scene, rng, self.m3)
            return (views.view_a, views.view_b), (), scene
        if kind == "focus":
            focuses = focus_pair(scene, rng)
            return (focuses.near, focuses.far), ("near", "far"), scene
        if kind == "exposure":
            exposures = exposure_pair(scene, rng)
            return (exposures.under, exposures.over), ("under", "over"), scene
        if kind == "infrared":
            names = [names[0] for names in self.classes]
            thermal = simulated_infrared(scene, labels, names, rng)
            visible = at_night(scene, rng) if rng.random() < 0.5 else scene
            target = PSEUDO_TARGETS.find(self.target)((visible, thermal))
            return (visible, thermal), ("visible", "infrared"), target
        return (scene, scene), (), scene
