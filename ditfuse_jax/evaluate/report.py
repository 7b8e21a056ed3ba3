"""The report of an evaluation: a page to look at and the same numbers for programs."""

import base64
import functools
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from ditfuse_jax.evaluate.curves import HEIGHT, WIDTH, training_curves
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.scores import Results, best_methods, format_row
from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.images import check_rgb

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_LONGEST_SIDE = 1024  # of embedded pictures, pixels
_LOSSLESS_BELOW = 160 * 160  # pixels: small pictures are enlarged, which shows JPEG's blocks
_OWN = "fused"  # the method that is the model itself


@dataclass(frozen=True)
class Run:
    """What was evaluated, told beside the scores."""

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)  # checkpoint, steps, seed, seconds...
    config: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    records: Sequence[Mapping[str, object]] = ()  # lines of the training run's metrics.jsonl


def write_report(
    folder: str | os.PathLike[str],
    results: Results,
    pictures: Mapping[str, Mapping[str, np.ndarray]],
    run: Run,
) -> Path:
    """Writes `report.html`, which needs no other file and no network, and `report.json`.

    `report.json` holds, by metric, the mean score of each method, `{"PSNR": {"fused": 31.2, ...}}`,
    and under "images" the same for each image; "count" and "run" tell the rest.  A value that is
    infinite (PSNR of identical images) or undefined is `null` there.

    Args:
      folder: created if need be.
      results: scores, of the model under the method name "fused".
      pictures: stem -> title -> uint8 RGB `(H, W, 3)`, e.g. View A, View B, Fused, Clean; each
        stem's pictures make one row.  Those larger than 1024 pixels are embedded smaller.
      run: what was evaluated.

    Returns:
      The path of `report.html`.

    Raises:
      UserError: a picture that is no uint8 RGB, or a folder that cannot be written.
    """
    folder = Path(folder)
    page = report_html(results, pictures, run)
    make_folder(folder)
    write_text(folder / "report.json", report_json(results, run))
    write_text(folder / "report.html", page)
    return folder / "report.html"


def report_json(results: Results, run: Run) -> str:
    """Returns the text of `report.json`; see `write_report`."""
    content = {
        **results.summary(),
        "count": results.count,
        "run": {
            "title": run.title,
            **run.facts,
            "config": run.config,
            "versions": run.versions,
        },
        "images": results.images,
    }
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def report_html(
    results: Results, pictures: Mapping[str, Mapping[str, np.ndarray]], run: Run
) -> str:
    """Returns the text of `report.html`; see `write_report`."""
    return _template().render(
        run=run,
        facts={name: _show(value) for name, value in run.facts.items()},
        config=_flatten(run.config),
        count=results.count,
        own=_OWN,
        methods=results.methods,
        groups=_groups(results),
        highlights=_highlights(results),
        gallery=[_gallery_row(stem, row, results) for stem, row in pictures.items()],
        per_image=_per_image(results),
        curves=training_curves(run.records),
        width=WIDTH,
        height=HEIGHT,
    )


@dataclass(frozen=True)
class _Cell:
    text: str
    best: bool


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _groups(results: Results) -> list[dict[str, object]]:
    """The table's two parts: scores against the clean image, and all others."""
    summary = results.summary()
    groups = []
    for heading, against_clean in (
        ("Against the clean image", True),
        ("Fused image and its sources", False),
    ):
        rows = [
            {"metric": METRICS[name], "cells": cells}
            for name, values in summary.items()
            if (METRICS[name].needs == "clean") == against_clean
            for cells in [_cells(name, values)]
        ]
        if rows:
            groups.append({"heading": heading, "against_clean": against_clean, "rows": rows})
    return groups


def _cells(metric: str, values: Mapping[str, float]) -> list[_Cell]:
    best = best_methods(metric, values)
    texts = format_row(values.values())
    return [_Cell(text, method in best) for method, text in zip(values, texts, strict=True)]


def _highlights(results: Results) -> list[dict[str, object]]:
    """The model's scores against the clean image, each with its lead over the best other method."""
    highlights = []
    for name, values in results.summary().items():
        others = {method: value for method, value in values.items() if method != _OWN}
        if METRICS[name].needs != "clean" or _OWN not in values or not others:
            continue
        rivals = sorted(best_methods(name, others))
        lead = values[_OWN] - others[rivals[0]] if rivals else math.nan
        ahead = METRICS[name].merit(lead) > 0
        highlights.append(
            {
                "metric": METRICS[name],
                "value": format_row([values[_OWN]])[0],
                "lead": format_row([abs(lead), values[_OWN]])[0] if math.isfinite(lead) else "",
                "sign": "+" if lead > 0 else "−",
                "ahead": ahead,
                "rival": rivals[0] if rivals else "",
            }
        )
    return highlights


def _gallery_row(stem: str, row: Mapping[str, np.ndarray], results: Results) -> dict[str, object]:
    scores = results.images.get(stem, {})
    shown = {METRICS[name]: values[_OWN] for name, values in scores.items() if _OWN in values}
    against_clean = {m: value for m, value in shown.items() if m.needs == "clean"}
    return {
        "stem": stem,
        "scores": [
            (metric, format_row([value])[0]) for metric, value in (against_clean or shown).items()
        ][:3],
        "pictures": [
            {
                "title": title,
                "uri": _data_uri(image, f"{stem}, {title}"),
                "size": image.shape[1::-1],
            }
            for title, image in row.items()
        ],
    }


def _per_image(results: Results) -> dict[str, object]:
    """The model's scores of every image, one column per metric."""
    names = list(results.summary())
    columns = [
        format_row(scores.get(name, {}).get(_OWN, math.nan) for scores in results.images.values())
        for name in names
    ]
    rows = zip(results.images, zip(*columns, strict=True), strict=True)
    return {"metrics": [METRICS[name] for name in names], "rows": list(rows)}


def _data_uri(image: np.ndarray, name: str) -> str:
    check_rgb(image, name)
    picture = Image.fromarray(image)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    if picture.width * picture.height < _LOSSLESS_BELOW:
        kind = "png"
        picture.save(encoded, "PNG")
    else:
        kind = "jpeg"
        # Not optimised: that takes one buffer for all, and noise does not fit into it.
        picture.save(encoded, "JPEG", quality=90, subsampling="4:4:4")
    return f"data:image/{kind};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _show(value: object) -> str:
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


def _plain(value: object) -> object:
    """What JSON can hold: numbers that are not finite become null, the unknown becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
