"""The report of a sweep: `sweep.html`, `table.csv`, `table.md` and `trials.csv`."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jinja2

from ditfuse_jax.evaluate.reports.page import draw_or_explain
from ditfuse_jax.evaluate.reports.plots import SERIES_COLOURS
from ditfuse_jax.evaluate.reports.tables import MEANINGS
from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.sweep.local import TrialFailure
from ditfuse_jax.sweep.plan import SweepPlan
from ditfuse_jax.sweep.plots import score_plots, setting_numbers, training_curves
from ditfuse_jax.sweep.table import (
    ScoreTable,
    find_metric,
    title_prefix,
    to_csv,
    to_markdown,
    trials_csv,
)
from ditfuse_jax.train.run_folder import package_versions

_TEMPLATE = Path(__file__).with_name("sweep.html.j2")


def write_report(plan: SweepPlan, table: ScoreTable, failures: Sequence[TrialFailure] = ()) -> Path:
    """Writes the four files into the sweep's folder.

    Returns:
      The path of `sweep.html`, which needs no other file and no network.

    Raises:
      UserError: the folder cannot be written.
    """
    make_folder(plan.folder)
    write_text(plan.folder / "table.csv", to_csv(table))
    write_text(plan.folder / "table.md", to_markdown(table))
    write_text(plan.folder / "trials.csv", trials_csv(plan))
    page = plan.folder / "sweep.html"
    write_text(page, report_html(plan, table, failures))
    return page


def report_html(plan: SweepPlan, table: ScoreTable, failures: Sequence[TrialFailure] = ()) -> str:
    """Returns the text of `sweep.html`."""
    sweep = plan.sweep
    done = sum(row.done for row in table.rows)
    facts = {
        "checkpoint" if sweep.checkpoint else "recipe": sweep.checkpoint or sweep.recipe,
        "settings": len(table.rows),
        "seeds": ", ".join(map(str, sweep.seeds)),
        "trials done": f"{done} of {len(plan.trials)}",
        "scored on": " ".join(sweep.evaluate) or "the recipe's held-out examples, last step",
    }
    columns = {name: table.texts(name) for name in table.metrics}
    best = {name: table.best(name) for name in table.metrics}
    rows = [
        {
            "row": row,
            "cells": [
                {
                    "mean": columns[name][number][0],
                    "deviation": columns[name][number][1],
                    "value": row.cells[name].mean,
                    "best": row.setting in best[name],
                }
                for name in table.metrics
            ],
        }
        for number, row in enumerate(table.rows)
    ]
    scores = score_plots(table)
    drawn, no_plots = draw_or_explain([*scores, *training_curves(plan)])
    return _template().render(
        title=sweep.title or plan.folder.name,
        facts=facts,
        metrics=[(name, title_prefix(name), find_metric(name)) for name in table.metrics],
        rows=rows,
        colours={name: n % SERIES_COLOURS for name, n in setting_numbers(plan).items()},
        numbers=setting_numbers(plan),
        score_plots=drawn[: len(scores)],
        curves=drawn[len(scores) :],
        no_plots=no_plots,
        failures=failures,
        settings={name: " ".join(own) or "(the recipe unchanged)" for name, own in sweep.items()},
        overrides=sweep.overrides,
        versions=package_versions(),
        meanings=MEANINGS,
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
