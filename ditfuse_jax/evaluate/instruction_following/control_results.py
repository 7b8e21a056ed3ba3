"""Results of measuring control: per scene, as means over all scenes, and as a table."""

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
    kendall_tau,
    ordered_neighbours,
    psnr,
    strictly_ordered,
)
from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.evaluate.results import mean

PLAIN = "plain"

# Scale -> its levels from the lowest to the highest, and what is measured of an output.
SCALES = {
    "brightness": (("LIGHT--", "LIGHT-", PLAIN, "LIGHT+", "LIGHT++"), brightness),
    "contrast": (("CONTRAST-", PLAIN, "CONTRAST+"), contrast),
}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Compares the outputs of one scene for several held-out sentences of one group.

    Attributes:
      pairwise: squared error and SSIM of each pair of outputs.
      to_training: form of the sentence, squared error and SSIM to the output for the group's
        standard sentence, one of those that training uses.
      spread: standard deviation over the sentences of the value on the group's scale.
      step: mean absolute difference of neighbouring levels on that scale, for this scene.
    """

    pairwise: list[tuple[float, float]]
    to_training: list[tuple[str, float, float]]
    spread: float
    step: float


@dataclasses.dataclass(frozen=True)
class SceneControl:
    """Measurements of one scene.  Targets are the plain output, adjusted as in training.

    Attributes:
      levels: scale -> level -> value of the output.
      target_levels: the same of the target.
      structure: tag -> `structural_similarity` of output and plain output.
      target_structure: the same of target and plain output.
      agreement: group of instructions -> agreement of its held-out sentences.
    """

    levels: dict[str, dict[str, float]]
    target_levels: dict[str, dict[str, float]]
    structure: dict[str, float]
    target_structure: dict[str, float]
    agreement: dict[str, Agreement]


@dataclasses.dataclass(frozen=True)
class ControlResults:
    """Measurements of all scenes, by stem."""

    images: dict[str, SceneControl]

    def summary(self) -> dict[str, Any]:
        """Returns `scales`, `structure`, `target_structure`, `paraphrases` and `forms`.

        All values are means over the scenes.
        """
        rows = list(self.images.values())
        return {
            "scales": {name: self._scale(name) for name in SCALES},
            "structure": {tag: mean([row.structure[tag] for row in rows]) for tag in TONES},
            "target_structure": {
                tag: mean([row.target_structure[tag] for row in rows]) for tag in TONES
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
            "targets": means([row.target_levels[name] for row in self.images.values()]),
        }

    def _forms(self) -> dict[str, dict[str, Any]]:
        """Agreement with the training sentence's output, by the form of the held-out sentence."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in self.images.values():
            for agreement in row.agreement.values():
                for form, error, ssim in agreement.to_training:
                    found[form].append((error, ssim))
        return {
            form: {"outputs": len(pairs)} | _similarity(pairs)
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
                ("target", *(format_number(scale["targets"][level], 1) for level in levels)),
                *(
                    (title, *(format_number(summary[key].get(tag, math.nan)) for tag in levels))
                    for title, key in (
                        ("structure", "structure"),
                        ("of the target", "target_structure"),
                    )
                ),
            ]
            parts.append(aligned_text(lines))
            order = (scale[key] for key in ("strictly_ordered", "ordered_neighbours"))
            text = "strictly ordered in {:.0%} of the scenes, {:.0%} of neighbours".format(*order)
            parts.append(f"{text}, tau {scale['kendall_tau']:.2f}\n")
        head = ("held-out sentences", "PSNR", "SSIM", "to training's", "SSIM", "spread / step")
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
    """Returns the mean absolute difference of neighbouring values."""
    return mean([abs(high - low) for low, high in itertools.pairwise(values)])


def _summary_of(rows: Sequence[Agreement]) -> dict[str, Any]:
    """Agreement of one group over the scenes; the PSNR is that of the mean squared error."""
    pairwise = [pair for row in rows for pair in row.pairwise]
    to_training = [(error, ssim) for row in rows for _, error, ssim in row.to_training]
    spread, step = (mean([getattr(row, name) for row in rows]) for name in ("spread", "step"))
    of_training = {f"{key}_to_training": value for key, value in _similarity(to_training).items()}
    return {
        "outputs": len(to_training),
        **_similarity(pairwise),
        **of_training,
        "spread": spread,
        "step": step,
        "spread_over_step": spread / step if step else math.nan,
    }


def _similarity(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    errors, ssims = zip(*pairs, strict=True) if pairs else ((), ())
    return {"psnr": psnr(errors), "ssim": mean(ssims)}
