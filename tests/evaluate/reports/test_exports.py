"""Scores as files for programs."""

import csv
import json
import math

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.exports import Exports
from ditfuse_jax.evaluate.results import Results

EN, MSE = "EN", "MSE"


@pytest.fixture
def results() -> Results:
    values = {"x": (7.0, 400.0), "y, z": (6.0, math.inf), "w": (5.5, math.nan)}
    return Results(
        {
            stem: {EN: {"Mine": en, "mean": en - 1}, MSE: {"Mine": mse, "mean": 9.0}}
            for stem, (en, mse) in values.items()
        }
    )


def refuse(constant: str):
    raise AssertionError(f"{constant} is not JSON")


def test_json_has_images_and_summary_of_the_first_and_of_every_method(results, tmp_path):
    Exports(json=tmp_path / "scores.json").write(results, {"task": "ivif"})
    content = json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse)
    assert list(content) == ["images", "summary", "methods", "run"]
    assert content["run"] == {"task": "ivif", "preset": "canonical"}
    assert list(content["images"]) == ["x", "y, z", "w"]
    assert content["images"]["x"] == {EN: 7.0, MSE: 400.0}
    assert content["images"]["y, z"][MSE] is None and content["images"]["w"][MSE] is None
    for row in content["summary"].values():
        assert list(row) == ["mean", "low", "high", "count"]
    summary = content["summary"][EN]
    assert summary["mean"] == pytest.approx(18.5 / 3)
    assert 5.5 <= summary["low"] < summary["mean"] < summary["high"] <= 7.0
    assert content["summary"][MSE] == {"mean": None, "low": None, "high": None, "count": 2}
    assert list(content["methods"]) == ["Mine", "mean"]
    assert content["methods"]["Mine"] == {k: content[k] for k in ("images", "summary")}
    assert content["methods"]["mean"]["images"]["x"] == {EN: 6.0, MSE: 9.0}


def test_csv_has_a_line_per_method_and_image_and_a_summary_file(results, tmp_path):
    Exports(csv=tmp_path / "scores.csv").write(results)
    with (tmp_path / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["image"]) for line in lines] == [
        (method, stem) for method in ("Mine", "mean") for stem in ("x", "y, z", "w")
    ]
    assert float(lines[0][EN]) == 7.0 and float(lines[1][MSE]) == math.inf and not lines[2][MSE]
    with (tmp_path / "scores-summary.csv").open(newline="") as file:
        summary = {(line["method"], line["metric"]): line for line in csv.DictReader(file)}
    assert float(summary["mean", EN]["mean"]) == pytest.approx(15.5 / 3)
    assert float(summary["Mine", EN]["rank"]) == 1.0
    assert summary["Mine", EN]["images"] == "3" and summary["mean", MSE]["images"] == "2"
    assert set(summary) == {(m, n) for m in ("Mine", "mean") for n in (EN, MSE)}


def test_only_the_requested_files_are_written(results, tmp_path):
    Exports(markdown=tmp_path / "t.md", latex=tmp_path / "t.tex").write(results)
    assert {path.name for path in tmp_path.iterdir()} == {"t.md", "t.tex"}


def test_missing_folders_are_made_and_a_folder_is_no_file(results, tmp_path):
    exports = Exports(csv=tmp_path / "a new" / "deep one" / "x.csv")
    exports.make_folders()
    exports.write(results)
    assert (tmp_path / "a new" / "deep one" / "x.csv").is_file()
    with pytest.raises(UserError, match="is a folder: name a file"):
        Exports(json=tmp_path / "a new").make_folders()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created"):
        Exports(json=tmp_path / "file" / "x.json").make_folders()


def test_a_table_replaces_no_image_and_no_other_table(tmp_path):
    image = tmp_path / "vis.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    for kind in ("json", "csv", "markdown", "latex"):
        with pytest.raises(UserError, match=r"vis\.png exists and is no text: choose another"):
            Exports(**{kind: image}).make_folders()
    for one in (
        Exports(json=tmp_path / "x", csv=tmp_path / "x"),
        Exports(csv=tmp_path / "x.csv", markdown=tmp_path / "x-summary.csv"),
    ):
        with pytest.raises(UserError, match=r"two tables would be written to this file"):
            one.make_folders()
    Exports(tmp_path / "x.json", tmp_path / "x.csv").make_folders()
