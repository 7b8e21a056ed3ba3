"""The page of a training: curves of the loss and of the evaluations, and their values."""

from collections.abc import Mapping
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.page import render
from ditfuse_jax.evaluate.reports.plots import DrawnPlot, draw_plots
from ditfuse_jax.evaluate.reports.training_curves import Records, training_curves

_MOST_ROWS = 200  # of the table of evaluations: the newest


def run_page(
    name: str,
    config: Mapping[str, Any],
    records: Records,
    evaluations: Records,
    *,
    refresh: int,
    written: str,
) -> str:
    """Returns the text of `training.html`, which needs no other file and no network.

    Without matplotlib the page has a sentence in place of the curves.

    Args:
      name: of the run.
      config: the resolved config.
      records: of steps: step, loss, learning rate and images per second.
      evaluations: records with scalars `eval/...`.
      refresh: seconds after which a browser loads the page again; 0 at the end of the training.
      written: the time, for the reader.
    """
    plots, no_plots = _draw([*records, *evaluations])
    last = records[-1] if records else {}
    step = max((_step(record) for record in (*records[-1:], *evaluations[-1:])), default=0)
    facts = {
        "state": "training" if refresh else "ended",
        "step": f"{step:,} of {config['train']['steps']:,}",
        "model": config["model"]["preset"],
        **{
            title: f"{last[key]:.4g}"
            for key, title in (("loss", "loss"), ("images_per_second", "images per second"))
            if key in last
        },
        "written": written,
    }
    names, rows = _table(evaluations)
    return render(
        "training.html.j2",
        title=name,
        facts=facts,
        refresh=refresh,
        plots=plots,
        no_plots=no_plots,
        names=[name.removeprefix("eval/") for name in names],
        rows=rows[-_MOST_ROWS:],
        left_out=max(len(rows) - _MOST_ROWS, 0),
    )


def _draw(records: Records) -> tuple[list[DrawnPlot], str]:
    try:
        return draw_plots(training_curves(records)), ""
    except UserError as error:
        return [], f"no curves: {error}"


def _table(evaluations: Records) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the names of the scalars, and step and values of each evaluated step."""
    names = list(
        dict.fromkeys(n for record in evaluations for n in record if n.startswith("eval/"))
    )
    by_step: dict[int, dict[str, object]] = {}
    for record in evaluations:
        by_step.setdefault(_step(record), {}).update(record)
    rows = [
        (step, [_text(values.get(name)) for name in names])
        for step, values in sorted(by_step.items())
    ]
    return names, rows


def _step(record: Mapping[str, object]) -> int:
    step = record["step"]
    assert isinstance(step, int)
    return step


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"
