"""The results of `evaluate --suite degraded` and `misaligned`: means, tables, JSON."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ditfuse_jax.evaluate.baselines import method_title
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.runner.methods import DEFAULT_METHOD
from ditfuse_jax.evaluate.runner.suites import Suite

Case = tuple[str, float]  # defect, strength
CLEAN: Case = ("clean", 0.0)
Values = dict[str, dict[Case, dict[str, dict[str, float]]]]  # image, case, metric, method

# What is computed of a suite, by its `against`.
METRICS_AGAINST = {
    "fusion": ("PSNR_clean", "SSIM_clean", "VIF"),
    "sources": ("Qabf", "VIF", "SSIM"),
}
_TITLES = {"PSNR_clean": "PSNR", "SSIM_clean": "SSIM"}
_EXPLANATIONS = {
    "fusion": "Each method's fused image of degraded sources, compared on luminance with its own"
    " fused image of the clean sources: higher is closer; ∞: equal on an image. `repaired`"
    " is the model asked to repair the defect, compared with `fused` of the clean sources.",
    "sources": "Fused images of the clean and of degraded sources, scored on luminance against the"
    " clean sources: what falls from the first row is lost.",
}


@dataclasses.dataclass(frozen=True)
class DegradedResults:
    """Scores of fused images of degraded sources.

    Attributes:
      values: set -> image -> (defect, strength) -> metric -> method -> value.
      excluded: set -> image -> why it was not scored.
    """

    values: Mapping[str, Values]
    excluded: Mapping[str, Mapping[str, str]]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(m for *_, row in self._rows() for m in row))

    def mean(self, case: Case, metric: str, method: str, name: str | None = None) -> float:
        """The mean over the images of a set, or of all sets; NaN if there are none."""
        found = [
            row[method]
            for of, _, c, m, row in self._rows()
            if (c, m) == (case, metric) and name in (None, of) and method in row
        ]
        return math.fsum(found) / len(found) if found else math.nan

    def _rows(self) -> Iterator[tuple[str, str, Case, str, dict[str, float]]]:
        for name, images in self.values.items():
            for stem, cases in images.items():
                for case, metrics in cases.items():
                    for metric, row in metrics.items():
                        yield name, stem, case, metric, row


def tables(
    results: DegradedResults, suite: Suite, model: str | None, align: str | None = None
) -> str:
    """Markdown: for each metric the mean by kind and strength, over all sets and for each."""
    methods = results.methods
    first = f"`{DEFAULT_METHOD}` is {model}. " if model else ""
    aligned = "" if align is None else f" All sources were aligned first (`{align}`)."
    parts = [f"# {suite.title}\n\n{first}{_EXPLANATIONS[suite.against]}{aligned}"]
    names = list(results.values)
    for name in [None, *names] if len(names) > 1 else names:
        count = sum(len(of) for key, of in results.values.items() if name in (None, key))
        title = next((s.title for s in suite.sets if s.name == name), "All sets")
        parts.append(f"## {title}, {count} {'image' if count == 1 else 'images'}")
        for metric in METRICS_AGAINST[suite.against]:
            head = [_TITLES.get(metric, metric), "strength", *map(method_title, methods)]
            lines = ["| " + " | ".join(head) + " |", "|---|---" + "|---:" * len(methods) + "|"]
            for case in scored_cases(suite):
                means = [results.mean(case, metric, m, name) for m in methods]
                strength = "" if case == CLEAN else f"{case[1]:g}"
                cells = [case[0], strength, *(_number(mean, metric) for mean in means)]
                lines.append("| " + " | ".join(cells) + " |")
            parts.append("\n".join(lines))
    for name, of in results.excluded.items():
        parts += [f"Excluded from {name}: {stem}: {why}" for stem, why in of.items()]
    return "\n\n".join(parts) + "\n"


def degraded_cases(suite: Suite) -> list[Case]:
    return [(c.defect, strength) for c in suite.conditions for strength in c.strengths]


def scored_cases(suite: Suite) -> list[Case]:
    """Those that have scores: clean sources too, unless everything is compared with them."""
    return [*([CLEAN] if suite.against == "sources" else []), *degraded_cases(suite)]


def _number(mean: float, metric: str) -> str:
    if not math.isfinite(mean):
        return "∞" if mean == math.inf else "–"
    return f"{mean:.2f}" if metric == "PSNR_clean" else f"{mean:.3f}"


def as_json(results: DegradedResults, suite: Suite, facts: dict[str, Any]) -> dict[str, Any]:
    metrics = METRICS_AGAINST[suite.against]

    def nested(value: Callable[[Case, str, str], float]) -> dict[str, Any]:
        of_defects: dict[str, Any] = {}
        for defect, strength in scored_cases(suite):
            of_defects.setdefault(defect, {})[f"{strength:g}"] = {
                metric: {m: value((defect, strength), metric, m) for m in results.methods}
                for metric in metrics
            }
        return of_defects

    return {
        "run": facts,
        "metrics": {metric: METRICS[metric].title for metric in metrics},
        "sets": {
            name: {
                "count": len(images),
                "excluded": dict(results.excluded[name]),
                "summary": nested(functools.partial(results.mean, name=name)),
                "images": {
                    stem: nested(
                        lambda case, metric, m, of=cases: of[case][metric].get(m, math.nan)
                    )
                    for stem, cases in images.items()
                },
            }
            for name, images in results.values.items()
        },
        "summary": nested(results.mean),
    }
