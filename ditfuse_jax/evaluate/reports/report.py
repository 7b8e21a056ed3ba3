"""The report of an evaluation: a page to look at and the same numbers for programs."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ditfuse_jax.evaluate.reports.exports import json_text
from ditfuse_jax.evaluate.reports.page import RunInfo, report_page
from ditfuse_jax.evaluate.results import Results
from ditfuse_jax.files import make_folder, write_text


def write_report(
    folder: str | os.PathLike[str],
    results: Results,
    pictures: Iterable[tuple[str, Mapping[str, np.ndarray]]],
    run: RunInfo,
) -> Path:
    """Writes `report.html`, which needs no other file and no network, and `report.json`.

    `report.json` holds, by metric, the mean score of each method, `{"VIF": {"fused": 0.71, ...}}`,
    and under "images" the same for each image; "count", "excluded" and "run" tell the rest.  A
    value that is infinite (PSNR of identical images) or undefined is `null` there.

    Args:
      folder: created if need be.
      results: scores; the method that the report is about is the first.
      pictures: stems with title -> uint8 RGB `(H, W, 3)`, e.g. View A, View B, Fused, Clean; each
        stem's pictures make one row.  Those larger than 1024 pixels are embedded smaller.
      run: what was evaluated.

    Returns:
      The path of `report.html`.

    Raises:
      UserError: a picture that is no uint8 RGB, or a folder that cannot be written.
    """
    folder = Path(folder)
    page = report_page(results, pictures, run)
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
            "config": run.config,
            "versions": run.versions,
        },
        "images": results.images,
    }
    return json_text(content)
