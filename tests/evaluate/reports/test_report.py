"""The page and its JSON: complete, self-contained, safe."""

import base64
import io
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.page import PLOTS, RunInfo, pictured_scenes
from ditfuse_jax.evaluate.reports.plots import Plot
from ditfuse_jax.evaluate.reports.report import write_report
from ditfuse_jax.evaluate.results import Results

PSNR, SSIM, EN, MSE = "PSNR_clean", "SSIM_clean", "EN", "MSE"
METHODS = ("fused", "mean", "max", "copy_a", "copy_b")
TITLES = ("View A", "View B", "Fused", "Clean")


def results() -> Results:
    def scores(offset: float) -> dict[str, dict[str, float]]:
        rows = {PSNR: 30.0, SSIM: 0.9, EN: 7.0, MSE: 400.0}
        return {
            metric: {method: value - i + offset for i, method in enumerate(METHODS)}
            for metric, value in rows.items()
        }

    return Results({"cat": scores(0), "dog": scores(1)})


def pictures(side: int = 200) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 2, (4, side, side, 3)), axis=2) + 128
    images = np.clip(smooth, 0, 255).astype(np.uint8)
    return {"cat": dict(zip(TITLES, images, strict=True))}


RUN = RunInfo(
    title="run",
    facts={"checkpoint": "step 6000", "seconds_per_image": 0.123456, "path": Path("runs/a")},
    config={"model": {"preset": "small"}, "seed": 0},
    versions={"jax": "0.10.2"},
    records=[{"step": i, "loss": 1 / (i + 1)} for i in range(10)],
)


@pytest.fixture
def write(html_page):
    """Writes a report and reads its page."""

    def run(folder: Path, run: RunInfo = RUN, images=None, scores: Results | None = None):
        shown = pictures() if images is None else images
        path = write_report(folder, scores or results(), shown.items(), run)
        return html_page.Page(path.read_text(encoding="utf-8"))

    return run


def test_json_has_means_images_count_and_run(write, tmp_path):
    write(tmp_path / "new" / "folder")
    content = json.loads((tmp_path / "new" / "folder" / "report.json").read_text())
    assert content[PSNR] == {m: pytest.approx(30.5 - i) for i, m in enumerate(METHODS)}
    assert {SSIM, EN, MSE} < set(content)
    assert content["images"]["dog"][PSNR]["mean"] == 30.0
    assert content["count"] == 2
    assert content["run"]["checkpoint"] == "step 6000" and content["run"]["path"] == "runs/a"
    assert content["run"]["config"]["model"]["preset"] == "small"


def test_infinite_and_undefined_values_are_null_in_json_and_readable_on_the_page(write, tmp_path):
    values = {"fused": math.inf, "mean": math.nan, "max": 9.0}
    correlations = {"fused": 0.5, "mean": math.nan, "max": 0.4}
    scores = Results({"same": {PSNR: values, "CC": correlations}})
    page = write(tmp_path, scores=scores)

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert content[PSNR] == {"fused": None, "mean": None, "max": 9.0}
    assert "∞" in page.text and "–" in page.text
    assert "CC (mean) is undefined (–) where an image is flat: mean on 1 of 1." in page.text


def test_the_page_is_self_contained(write, tmp_path):
    page = write(tmp_path)
    assert len(page.sources()) == len(TITLES)
    assert all(source.startswith("data:image/") for source in page.sources())
    page.assert_self_contained()


def test_embedded_pictures_are_the_given_ones(write, tmp_path):
    given = pictures()
    page = write(tmp_path, images=given)
    for source, image in zip(page.sources(), given["cat"].values(), strict=True):
        decoded = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))
        error = np.asarray(decoded.convert("RGB"), np.float64) - image
        assert np.sqrt((error**2).mean()) < 12


def test_pictures_of_pure_noise_are_embedded(write, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    (source,) = write(tmp_path, images={"s": {"Noise": noise}}).sources()
    assert Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).size == (512, 512)


def test_small_pictures_are_embedded_without_loss_and_large_ones_reduced(write, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    wide = np.zeros((300, 3000, 3), np.uint8)
    page = write(tmp_path, images={"s": {"Noise": noise, "Wide": wide}})
    small, large = (
        Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) for uri in page.sources()
    )
    np.testing.assert_array_equal(np.asarray(small), noise)
    assert large.size == (1024, 102)


def test_the_best_of_each_row_is_marked_following_its_direction(write, tmp_path):
    page = write(tmp_path)
    best = [
        attrs["class"]
        for tag, attrs in page.tags
        if tag == "td" and "best" in (attrs.get("class") or "")
    ]
    assert len(best) == 4  # four metrics; the lowest MSE is not the model's
    assert sum("own" in (name or "") for name in best) == 3
    assert "↑" in page.text and "↓" in page.text


def test_the_lead_over_the_best_baseline_is_shown(write, tmp_path):
    text = " ".join(write(tmp_path).text.split())
    assert "30.50 dB +1.00 against mean" in text.replace("30.50dB", "30.50 dB")


def test_names_cannot_inject_markup(write, tmp_path):
    evil = '"><script>alert(1)</script>'
    run = RunInfo(title=evil, facts={evil: evil}, config={evil: evil}, versions={evil: evil})
    image = np.zeros((20, 20, 3), np.uint8)
    scores = Results({evil: {PSNR: {"fused": 1.0, evil: 2.0}}}, {evil: evil})
    page = write(tmp_path, run, {evil: {evil: image}}, scores)
    plain = write(tmp_path / "plain")
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert [tag for tag, _ in plain.tags].count("script") == 2
    assert evil in page.text
    # Nor can they end the script that holds the scores.
    html = (tmp_path / "report.html").read_text()
    data = re.search(r'id="scores">(.*?)</script>', html, re.DOTALL)
    assert data and json.loads(data[1])["stems"] == [evil]


def test_config_and_versions_are_listed_with_dotted_names(write, tmp_path):
    page = write(tmp_path)
    assert "model.preset" in page.text and "0.10.2" in page.text
    details = [attrs for tag, attrs in page.tags if tag == "details"]
    assert len(details) == 3 and all("open" not in attrs for attrs in details)


def plot_titles(page):
    return [attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") == "img"]


def test_the_training_curve_is_drawn_only_when_there_are_records(write, tmp_path):
    assert plot_titles(write(tmp_path / "a")) == ["loss"]
    assert plot_titles(write(tmp_path / "b", RunInfo(title="x"))) == []


def test_a_registered_plot_is_drawn_in_every_report(write, tmp_path, monkeypatch):
    monkeypatch.setattr(PLOTS, "_entries", dict(PLOTS))
    PLOTS.register(
        "sizes", lambda results, run: [Plot(f"of {run.title}", lambda axes: axes.plot([1, 2]))]
    )
    assert plot_titles(write(tmp_path)) == ["loss", "of run"]


def test_without_matplotlib_there_is_a_report_that_says_what_to_install(
    write, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = write(tmp_path)
    hint = "no plots in the report: matplotlib is not installed: pip install 'ditfuse-jax[reports]'"
    assert plot_titles(page) == [] and hint in page.text
    assert capsys.readouterr().err == f"warning: {hint}\n"


def test_a_report_without_pictures_or_clean_images_is_still_a_page(write, tmp_path):
    scores = Results({"pair": {EN: {"fused": 7.1, "mean": 6.5}}})
    page = write(tmp_path, RunInfo(title="plain"), {}, scores)
    assert page.sources() == [] and "7.1" in page.text


def test_excluded_images_are_listed_with_their_reasons(write, tmp_path):
    scores = Results(results().images, {"bad": "a/bad.png: is damaged or truncated"})
    page = write(tmp_path, scores=scores)
    assert "a/bad.png: is damaged or truncated" in page.text and "1 of 3" in page.text
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["excluded"] == {"bad": "a/bad.png: is damaged or truncated"}


def test_the_script_has_every_score_of_every_method(write, tmp_path):
    write(tmp_path)
    html = (tmp_path / "report.html").read_text()
    (text,) = re.findall(r'id="scores">(.*?)</script>', html, re.DOTALL)
    data = json.loads(text)
    assert data["own"] == "fused" and data["stems"] == ["cat", "dog"]
    for metric in (PSNR, SSIM, EN, MSE):
        for method in METHODS:
            expected = [row[metric][method] for row in results().images.values()]
            assert data["values"][method][metric] == pytest.approx(expected, rel=1e-5)


def test_every_cell_of_a_sortable_table_has_the_value_it_is_sorted_by(write, tmp_path):
    write(tmp_path)
    html = (tmp_path / "report.html").read_text()
    for table in re.findall(r'<table class="sortable.*?</table>', html, re.DOTALL):
        body = table[table.index("<tbody>") :]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL):
            first, *cells = re.findall(r"<td[^>]*>", row)
            assert cells and all("data-value=" in cell for cell in cells) and first


def test_of_many_scenes_the_worst_and_the_best_of_every_metric_are_pictured():
    rng = np.random.default_rng(0)
    images = {
        f"{i:03d}": {EN: {"fused": float(rng.normal())}, MSE: {"fused": float(rng.normal())}}
        for i in range(200)
    }
    scores = Results(images)
    shown = pictured_scenes(scores)
    assert len(shown) == 40 and shown == sorted(shown)
    for metric in (EN, MSE):
        order = sorted(images, key=lambda stem: images[stem][metric]["fused"])
        assert {*order[:5], *order[-5:]} <= set(shown)
    few = dict(list(images.items())[:40])
    assert pictured_scenes(Results(few)) == list(few)


def test_a_failed_write_keeps_the_old_report_and_leaves_no_temporary_file(
    write, tmp_path, monkeypatch
):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        write(tmp_path, RunInfo(title="second"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_a_file_is_refused(write, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="taken"):
        write(tmp_path / "taken")
