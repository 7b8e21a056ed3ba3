"""Two views of a labelled street scene, as the cameras of one of the fusion tasks would show it."""

import dataclasses
from collections.abc import Mapping

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
from ditfuse_jax.errors import UserError

KINDS = ("clean", "m3", "focus", "exposure", "infrared")


@dataclasses.dataclass(frozen=True)
class StreetViews:
    """How views of a scene are drawn.

    Attributes:
      kinds: relative frequency of the scene itself twice (`clean`), M3 views (`m3`), two focuses
        (`focus`), two exposures (`exposure`), and the scene, half of the times at night, beside a
        simulated thermal image (`infrared`).
      m3: how M3 views are degraded.
      target: a name in `degrade.PSEUDO_TARGETS`, of the infrared kind.
      augment: probability that light, colours and weather of the scene are varied first.
    """

    kinds: Mapping[str, float]
    m3: M3Config = M3_PRESETS["paper"]
    target: str = "detail"
    augment: float = 0.0

    def __post_init__(self) -> None:
        PSEUDO_TARGETS.find(self.target)
        check_fraction("augment", self.augment)
        unknown = [name for name in self.kinds if name not in KINDS]
        if unknown:
            raise UserError(f"kind of views {unknown[0]!r} is unknown; choose from {KINDS}")
        shares = list(self.kinds.values())
        if not shares or min(shares) < 0 or not sum(shares) > 0:
            raise UserError(f"kinds of views need positive frequencies, not {dict(self.kinds)}")

    def draw(
        self,
        scene: np.ndarray,
        labels: np.ndarray,
        names: list[str],
        rng: np.random.Generator,
    ) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], np.ndarray]:
        """Returns two views, their roles (none for views without) and their fusion.

        Args:
          scene: `uint8 (H, W, 3)`.
          labels: (H, W) class numbers, which the simulated temperatures depend on.
          names: of the classes by number.
          rng: draws everything.
        """
        if rng.random() < self.augment:
            scene = vary_light(scene, rng)
        shares = np.array(list(self.kinds.values()))
        kind = list(self.kinds)[int(rng.choice(len(shares), p=shares / shares.sum()))]
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
            thermal = simulated_infrared(scene, labels, names, rng)
            visible = at_night(scene, rng) if rng.random() < 0.5 else scene
            target = PSEUDO_TARGETS.find(self.target)((visible, thermal))
            return (visible, thermal), ("visible", "infrared"), target
        return (scene, scene), (), scene
