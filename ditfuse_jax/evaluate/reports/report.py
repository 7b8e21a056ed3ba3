"""The report of an evaluation: an HTML page, and the same numbers as JSON."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ditfuse_jax.evaluate.reports.exports import json_text
from ditfuse_jax.evaluate.reports.page import RunInfo, report_page
from ditfuse_jax.evaluate.results import Results
from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.paths import as_path


def write_report(
    folder: str | os.PathLike[str],
    results: Results,
    pictures: Iterable[tuple[str, Mapping[str, np.ndarray]]],
    run: RunInfo,
    *,
    full_pictures: bool = False,
) -> Path:
    """Writes `report.html`, which needs no other file and no network, and `report.json`.

    `report.json` maps each metric to the mean score of each method,
    `{"VIF": {"fused": 0.71, ...}}`, and "images" to the same for each image; further entries are
    "count", "excluded" and "run".  Infinite (PSNR of identical images) and undefined values are
    `null` there.

    Args:
      folder: created if it does not exist.
      results: scores; the report is about the first method.
      pictures: stems with title -> uint8 RGB `(H, W, 3)`, e.g. View A, View B, Fused, Clean: one
        row of pictures per stem.  They are embedded with at most 1024 pixels, many of them with
        less, so that the page stays below 10 MB.
      run: what was evaluated.
      full_pictures: also write the pictures at full size to `report_pictures` beside the page,
        which links to them and enlarges them if they are there.

    Returns:
      The path of `report.html`.

    Raises:
      UserError: a picture is not uint8 RGB, or the folder cannot be written.
    """
    folder = as_path(folder)
    page = report_page(results, pictures, run, folder if full_pictures else None)
    make_folder(folder)
    write_text(folder / "report.json", report_json(results, run))
    write_text(folder / "report.html", page)
    return folder / "report.html"


def report_json(results: Results, run: RunInfo) -> str:
    """Returns the text of `report.json`; see `write_report`."""
    content = {
        **results.summary(),
        "count": results.count,
        "excluded": results.excluded,
        "run": {
            "title": run.title,
            **run.facts,
            "preset": results.preset,
            "config": run.config,
            "versions": run.versions,
        },
        "images": results.images,
    }
    return json_text(content)
