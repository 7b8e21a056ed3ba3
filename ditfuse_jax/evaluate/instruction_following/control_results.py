"""What an examination of control found: per scene, its means over the set, and their table."""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ditfuse_jax.degrade import TONES
from ditfuse_jax.evaluate.instruction_following.tone_measures import (
    brightness,
    contrast,
    decibels,
    kendall_tau,
    ordered_neighbours,
    strictly_ordered,
)
from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.evaluate.results import mean

PLAIN = "plain"

# What is ordered, from the least to the most, and what is measured of it.
SCALES = {
    "brightness": (("LIGHT--", "LIGHT-", PLAIN, "LIGHT+", "LIGHT++"), brightness),
    "contrast": (("CONTRAST-", PLAIN, "CONTRAST+"), contrast),
}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Outputs of one scene by several held-out sentences of one group.

    Attributes:
      between: squared error and SSIM of each two of them.
      to_training: by form of the sentence: squared error and SSIM to the output of the group's
        standard sentence, which training draws from.
      spread: standard deviation, between the sentences, of what the group's scale measures.
      step: mean absolute distance of neighbouring levels on that scale, for this scene.
    """

    between: list[tuple[float, float]]
    to_training: list[tuple[str, float, float]]
    spread: float
    step: float


@dataclasses.dataclass(frozen=True)
class SceneControl:
    """What one scene shows.

    Attributes:
      levels: scale -> level -> value.
      asked: the same of the plain output adjusted as training targets are.
      structure: tag -> `structure_kept` beside the plain output.
      structure_asked: the same of the plain output adjusted.
      agreement: group of instructions -> agreement of its held-out sentences.
    """

    levels: dict[str, dict[str, float]]
    asked: dict[str, dict[str, float]]
    structure: dict[str, float]
    structure_asked: dict[str, float]
    agreement: dict[str, Agreement]


@dataclasses.dataclass(frozen=True)
class ControlScores:
    """What all scenes show, by stem."""

    images: dict[str, SceneControl]

    def summary(self) -> dict[str, Any]:
        """Returns `scales`, `structure`, `structure_asked`, `paraphrases` and `forms`.

        All are means over the scenes.
        """
        rows = list(self.images.values())
        return {
            "scales": {name: self._scale(name) for name in SCALES},
            "structure": {tag: mean([row.structure[tag] for row in rows]) for tag in TONES},
            "structure_asked": {
                tag: mean([row.structure_asked[tag] for row in rows]) for tag in TONES
            },
            "paraphrases": {
                group: _summary_of([row.agreement[group] for row in rows])
                for group in rows[0].agreement
            },
            "forms": self._forms(),
        }

    def _scale(self, name: str) -> dict[str, Any]:
        rows = [list(row.levels[name].values()) for row in self.images.values()]

        def means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
            return {level: mean([one[level] for one in values]) for level in values[0]}

        return {
            "strictly_ordered": mean([float(strictly_ordered(row)) for row in rows]),
            "ordered_neighbours": mean([ordered_neighbours(row) for row in rows]),
            "kendall_tau": mean([kendall_tau(row) for row in rows]),
            "step": mean([mean_step(row) for row in rows]),
            "levels": means([row.levels[name] for row in self.images.values()]),
            "asked": means([row.asked[name] for row in self.images.values()]),
        }

    def _forms(self) -> dict[str, dict[str, Any]]:
        """Agreement with the training sentence by the form of the held-out one."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in self.images.values():
            for agreement in row.agreement.values():
                for form, error, alike in agreement.to_training:
                    found[form].append((error, alike))
        return {
            form: {"outputs": len(pairs)} | _likeness(pairs)
            for form, pairs in sorted(found.items())
        }

    def table(self) -> str:
        """Returns the summary for a terminal."""
        summary = self.summary()
        parts = []
        for name, scale in summary["scales"].items():
            levels = scale["levels"]
            lines = [
                (name, *levels),
                ("measured", *(format_number(value, 1) for value in levels.values())),
                ("asked for", *(format_number(scale["asked"][level], 1) for level in levels)),
                *(
                    (title, *(format_number(summary[key].get(tag, math.nan)) for tag in levels))
                    for title, key in (
                        ("structure kept", "structure"),
                        ("of what is asked", "structure_asked"),
                    )
                ),
            ]
            parts.append(aligned_text(lines))
            order = (scale[key] for key in ("strictly_ordered", "ordered_neighbours"))
            told = "ordered strictly in {:.0%} of the scenes, {:.0%} of neighbours".format(*order)
            parts.append(f"{told}, tau {scale['kendall_tau']:.2f}\n")
        head = ("held-out words", "PSNR", "SSIM", "to training's", "SSIM", "spread / step")
        keys = ("psnr", "ssim", "psnr_to_training", "ssim_to_training", "spread_over_step")
        rows = [
            (group, *(format_number(row[key], 1 if "psnr" in key else 3) for key in keys))
            for group, row in summary["paraphrases"].items()
        ]
        parts.append(aligned_text([head, *rows]) + "\n")
        forms = [
            (form, str(row["outputs"]), format_number(row["psnr"], 1), format_number(row["ssim"]))
            for form, row in summary["forms"].items()
        ]
        parts.append(aligned_text([("form", "outputs", "PSNR", "SSIM"), *forms]))
        return "\n".join(parts)


def mean_step(values: Sequence[float]) -> float:
    return mean([abs(high - low) for low, high in itertools.pairwise(values)])


def _summary_of(rows: Sequence[Agreement]) -> dict[str, Any]:
    """Agreement of one group over the scenes; PSNR is that of the mean squared error."""
    between = [pair for row in rows for pair in row.between]
    to_training = [(error, alike) for row in rows for _, error, alike in row.to_training]
    spread, step = (mean([getattr(row, name) for row in rows]) for name in ("spread", "step"))
    of_training = {f"{key}_to_training": value for key, value in _likeness(to_training).items()}
    return {
        "outputs": len(to_training),
        **_likeness(between),
        **of_training,
        "spread": spread,
        "step": step,
        "spread_over_step": spread / step if step else math.nan,
    }


def _likeness(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    errors, alike = zip(*pairs, strict=True) if pairs else ((), ())
    return {"psnr": decibels(errors), "ssim": mean(alike)}
