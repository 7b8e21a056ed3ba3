"""The HTML page of a report: the values that its templates show."""

import functools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.baselines import is_baseline, method_title
from ditfuse_jax.evaluate.bootstrap import best_methods
from ditfuse_jax.evaluate.reports.page_pictures import PagePicture, embed_pictures
from ditfuse_jax.evaluate.reports.plots import DrawnPlot, Plot, draw_plots
from ditfuse_jax.evaluate.reports.tables import MEANINGS, format_row, interval_text, marked
from ditfuse_jax.evaluate.reports.training_curves import training_curves
from ditfuse_jax.evaluate.results import Results
from ditfuse_jax.registry import Registry

_FOLDER = Path(__file__).with_name("templates")
_MOST_SCENES = 40  # whose pictures a page embeds


@dataclass(frozen=True)
class RunInfo:
    """What was evaluated; shown with the scores.

    Attributes:
      title: of the report.
      facts: shown at the top: checkpoint, steps, seed, ...
      config: of the model.
      versions: of packages.
      records: lines of the training run's `metrics.jsonl`.
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    records: Sequence[Mapping[str, object]] = ()


# The plots of a report.  Each entry is a function that returns any number of plots.
PLOTS: Registry[Callable[[Results, RunInfo], Sequence[Plot]]] = Registry(
    "plot", {"training curves": lambda results, run: training_curves(run.records)}
)


def report_page(
    results: Results,
    pictures: Iterable[tuple[str, Mapping[str, np.ndarray]]],
    run: RunInfo,
    full_pictures: Path | None = None,
) -> str:
    """Returns the text of `report.html`; see `report.write_report`.

    Args:
      results, pictures, run: see there.
      full_pictures: folder of the page, if the pictures are also to be written at full size.
    """
    shown = embed_pictures(pictures, full_pictures)
    wanted = [plot for make in PLOTS.values() for plot in make(results, run)]
    plots, no_plots = draw_or_explain(wanted)
    return render(
        "report.html.j2",
        run=run,
        facts={name: _show(value) for name, value in run.facts.items()},
        config=_flatten(run.config),
        count=results.count,
        excluded=results.excluded,
        preset=results.preset,
        table=score_table(results),
        highlights=_highlights(results),
        gallery=[_gallery_row(stem, row, results) for stem, row in shown.rows],
        picture_side=shown.longest_side,
        full_pictures=full_pictures is not None,
        per_image=_per_image(results),
        script_data=_scores_for_script(results),
        plots=plots,
        no_plots=no_plots,
    )


def draw_or_explain(plots: Sequence[Plot]) -> tuple[list[DrawnPlot], str]:
    """Returns the drawn plots, or without matplotlib none and a sentence that says why.

    The sentence also goes to the error stream: a report without plots is better than no report.
    """
    try:
        return draw_plots(plots), ""
    except UserError as error:
        message = f"no plots in the report: {error}"
        print(f"warning: {message}", file=sys.stderr)
        return [], message


def render(template: str, **values: object) -> str:
    """Renders a template; styles and scripts become part of the page."""
    parts = {
        name: _FOLDER.joinpath(file).read_text(encoding="utf-8")
        for name, file in (
            ("css", "report.css"),
            ("tables_js", "tables.js"),
            ("report_js", "report.js"),
        )
    }
    return _environment().get_template(template).render(**parts, **values)


def pictured_scenes(results: Results) -> list[str]:
    """Returns the scenes whose pictures are shown.

    These are all scenes, or if there are more than 40, those with the worst and the best scores of
    the first method for each metric.
    """
    stems = list(results.images)
    if len(stems) <= _MOST_SCENES:
        return stems
    orders = []
    for metric in results.metrics:
        values = dict(zip(stems, results.values(metric, results.primary), strict=True))
        ordered = sorted(stems, key=lambda stem: _sort_key(values[stem]))
        orders += [ordered, ordered[::-1]]
    turns = (stem for rank in zip(*orders, strict=True) for stem in rank)
    chosen: dict[str, None] = {}
    for stem in turns:
        chosen[stem] = None
        if len(chosen) == _MOST_SCENES:
            break
    return [stem for stem in stems if stem in chosen]


@dataclass(frozen=True)
class Cell:
    """A cell of the table of means; `value` is the key by which its column is sorted."""

    text: str
    interval: str
    value: float | str
    best: bool
    second: bool


def score_table(results: Results) -> dict[str, object]:
    """Returns the table of means: a row per method, metrics against the clean image first."""
    clean = [name for name in results.metrics if results.metric(name).needs == "clean"]
    names = clean + [name for name in results.metrics if name not in clean]
    groups = [
        {"title": "Against the clean image", "size": len(clean)},
        {"title": "Fused image and its sources", "size": len(names) - len(clean)},
    ]
    columns = [_cells(results, name) for name in names]
    return {
        "groups": [group for group in groups if group["size"]],
        "metrics": [results.metric(name) for name in names],
        "rows": [
            {
                "title": method_title(method),
                "own": method == results.primary,
                "reference": is_baseline(method),
                "cells": [column[place] for column in columns],
                "rank": _rank(results.mean_ranks.get(method, math.nan)),
            }
            for place, method in enumerate(results.methods)
        ],
        "notes": results.notes,
        "all_ranked": any(is_baseline(method) for method in results.ranked),
    }


def _rank(rank: float) -> str:
    return "–" if math.isnan(rank) else f"{rank:.2f}"


def _cells(results: Results, metric: str) -> list[Cell]:
    best, second = marked(results, metric)
    row = results.statistics[metric]
    texts = format_row(row[method].mean for method in results.methods)
    return [
        Cell(
            text=text,
            interval=interval_text(results, metric, method),
            value="" if math.isnan(row[method].mean) else row[method].mean,
            best=method in best,
            second=method in second,
        )
        for method, text in zip(results.methods, texts, strict=True)
    ]


def _highlights(results: Results) -> list[dict[str, object]]:
    """The model's scores against the clean image, each with its lead over the best other method."""
    highlights = []
    for name, values in results.summary().items():
        others = {m: values[m] for m in results.ranked if m != results.primary}
        if results.metric(name).needs != "clean" or is_baseline(results.primary) or not others:
            continue
        own = values[results.primary]
        rivals = sorted(best_methods(name, others))
        lead = own - others[rivals[0]] if rivals else math.nan
        ahead = results.metric(name).merit(lead) > 0
        highlights.append(
            {
                "metric": results.metric(name),
                "value": format_row([own])[0],
                "lead": format_row([abs(lead), own])[0] if math.isfinite(lead) else "",
                "sign": "+" if lead > 0 else "−",
                "ahead": ahead,
                "rival": method_title(rivals[0]) if rivals else "",
            }
        )
    return highlights


def _gallery_row(stem: str, row: Sequence[PagePicture], results: Results) -> dict[str, object]:
    scores = results.images.get(stem, {})
    shown = {
        results.metric(n): values[results.primary]
        for n, values in scores.items()
        if results.primary in values
    }
    against_clean = {m: value for m, value in shown.items() if m.needs == "clean"}
    return {
        "stem": stem,
        "scores": [
            (metric, format_row([value])[0]) for metric, value in (against_clean or shown).items()
        ][:3],
        "pictures": row,
    }


def _per_image(results: Results) -> dict[str, object]:
    """The first method's scores of every image, one column per metric."""
    columns = [results.values(name, results.primary) for name in results.metrics]
    texts = [zip(format_row(column), column, strict=True) for column in columns]
    rows = zip(results.images, zip(*texts, strict=True), strict=True)
    return {
        "method": method_title(results.primary),
        "metrics": [results.metric(name) for name in results.metrics],
        "rows": list(rows),
    }


def _scores_for_script(results: Results) -> dict[str, object]:
    """The data of the page's script: every score, null where there is none."""
    return {
        "stems": list(results.images),
        "own": results.primary,
        "metrics": [
            {"name": n, "title": results.metric(n).title, "direction": results.metric(n).direction}
            for n in results.metrics
        ],
        "methods": [
            {"name": m, "title": method_title(m), "reference": is_baseline(m)}
            for m in results.methods
        ],
        "values": {
            method: {
                name: [_number(value) for value in results.values(name, method)]
                for name in results.metrics
            }
            for method in results.methods
        },
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _sort_key(value: float) -> tuple[bool, float]:
    return math.isnan(value), value


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["meanings"] = MEANINGS
    return environment


def _show(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flatten(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
