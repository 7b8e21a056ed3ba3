"""Scores as files for programs and papers: JSON, CSV, Markdown, LaTeX."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.tables import latex_table, markdown_table
from ditfuse_jax.evaluate.results import Results
from ditfuse_jax.files import prepare_text_file, write_text
from ditfuse_jax.paths import as_path


@dataclass(frozen=True)
class Exports:
    """Files to write besides the report; None is not written."""

    json: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None
    latex: Path | None = None

    def make_folders(self) -> None:
        """Makes the files' folders before anything is computed.

        Raises:
          UserError: one cannot be made, two files are one, or one is a folder or exists and is no
            text, such as an image.
        """
        paths = list(map(as_path, filter(None, (self.json, self.csv, self.markdown, self.latex))))
        if self.csv:
            paths.append(_summary_file(as_path(self.csv)))
        for number, path in enumerate(paths):
            if path in paths[:number]:
                raise UserError(f"{path}: two tables would be written to this file: name two")
            prepare_text_file(path)

    def write(self, results: Results, facts: Mapping[str, object] | None = None) -> None:
        """Writes the files.

        Args:
          results: the scores.
          facts: how they were made, for `json`.

        `json` is `{"images": {stem: {metric: value}}, "summary": {metric: STATISTIC}}` of the first
        method, with the same for every method under "methods", and the preset and other facts under
        "run"; a statistic has `mean`, `low`, `high` and `count`, the number of images in the mean;
        infinite and undefined values are null.  `csv` has a line per method and image;
        NAME-summary.csv in the same folder has a line per method and metric with mean, interval,
        rank and the number of images in the mean.

        Raises:
          UserError: a file cannot be written.
        """
        if self.json:
            write_text(as_path(self.json), json_text(scores_json(results, facts)))
        if self.csv:
            path = as_path(self.csv)
            write_text(path, images_csv(results))
            write_text(_summary_file(path), summary_csv(results))
        if self.markdown:
            write_text(as_path(self.markdown), markdown_table(results) + "\n")
        if self.latex:
            write_text(as_path(self.latex), latex_table(results) + "\n")


def _summary_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}-summary{path.suffix}")


def scores_json(results: Results, facts: Mapping[str, object] | None = None) -> dict[str, dict]:
    """Returns the content of the JSON file, NaN and infinity included; see `Exports.write`."""
    methods = {method: _method_json(results, method) for method in results.methods}
    run = {**(facts or {}), "preset": results.preset}
    return {**methods[results.primary], "methods": methods, "run": run}


def images_csv(results: Results) -> str:
    """Returns CSV: a line per method and image, a column per metric; undefined values are empty."""
    rows = [["method", "image", *results.metrics]]
    for method in results.methods:
        for stem, scores in results.images.items():
            values = [scores.get(metric, {}).get(method) for metric in results.metrics]
            rows.append([method, stem, *map(_text, values)])
    return csv_text(rows)


def summary_csv(results: Results) -> str:
    """Returns CSV: a line per method and metric."""
    rows = [["method", "metric", "mean", "low", "high", "rank", "images"]]
    for method in results.methods:
        for metric, row in results.statistics.items():
            s = row[method]
            numbers = map(_text, (s.mean, s.low, s.high, s.rank))
            rows.append([method, metric, *numbers, str(s.count)])
    return csv_text(rows)


def _method_json(results: Results, method: str) -> dict[str, dict]:
    images = {
        stem: {metric: row[method] for metric, row in scores.items() if method in row}
        for stem, scores in results.images.items()
    }
    summary = {
        metric: {name: getattr(row[method], name) for name in ("mean", "low", "high", "count")}
        for metric, row in results.statistics.items()
    }
    return {"images": images, "summary": summary}


def _text(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def json_text(content: Mapping[str, object]) -> str:
    """Returns JSON: non-finite numbers become null, values of other types their text."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Returns rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
