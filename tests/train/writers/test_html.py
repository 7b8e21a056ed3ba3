"""The page of a training: its curves, when it is written, and that it ends no training."""

import json
import math
import re
import sys

import pytest

from ditfuse_jax.paths import as_path
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers import MultiWriter, html, make_writers
from ditfuse_jax.train.writers.html import FILE, HTMLWriter

CONFIG = {"train": {"steps": 400}, "model": {"preset": "nano"}}


@pytest.fixture
def read(html_page, tmp_path):
    def page():
        return html_page.Page((tmp_path / FILE).read_text(encoding="utf-8"))

    return page


def open_page(folder) -> HTMLWriter:
    return HTMLWriter(RunFolder(folder), CONFIG)


def train(writer, start, stop, every=100):
    for step in range(start + 10, stop + 1, 10):
        writer.write(step, {"loss": 2 - step / 500, "images_per_second": 12.0, "grad_norm": 1.0})
        if step % every == 0:
            writer.write(step, {"eval/PSNR_clean": 20 + step / 100})


def curves(page):
    return [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "img"]


def refreshes(page):
    return [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "refresh"]


def test_the_page_is_written_at_evaluations_and_loads_itself_again_while_training(tmp_path, read):
    writer = open_page(tmp_path)
    train(writer, 0, 90)
    assert not (tmp_path / FILE).exists()
    train(writer, 90, 230)
    page = read()
    assert curves(page) == ["loss", "eval/PSNR_clean"]
    assert refreshes(page) == ["60"] and "200 of 400" in page.text and "22" in page.text
    page.assert_self_contained()
    writer.close()
    page = read()
    assert refreshes(page) == [] and "230 of 400" in page.text and "ended" in page.text
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # no temporary file


def test_a_continued_run_shows_the_records_of_its_earlier_starts_up_to_its_step(tmp_path, read):
    lines = [{"step": s, "loss": 1.0, "eval/x": float(s)} for s in (100, 200, 300)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = RunFolder(tmp_path)
    run.step = 200
    writer = HTMLWriter(run, CONFIG)
    writer.write(250, {"eval/x": 7.0})
    cells = re.findall(r"<t[dh]>(.*?)</t[dh]>", read().html)
    assert cells == ["step", "x", "250", "7", "200", "200", "100", "100"]


def test_a_run_that_ends_before_an_evaluation_has_a_page_too(tmp_path, read):
    writer = open_page(tmp_path)
    writer.close()
    assert "0 of 400" in read().text and curves(read()) == []


def test_values_that_are_not_finite_are_shown(tmp_path, read):
    writer = open_page(tmp_path)
    writer.write(10, {"loss": math.nan})
    writer.write(10, {"eval/x": math.inf})
    assert "nan" in read().text and "inf" in read().text


def test_without_matplotlib_the_page_says_what_to_install(tmp_path, read, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    writer = open_page(tmp_path)
    train(writer, 0, 200)
    assert "pip install 'ditfuse-jax[reports]'" in read().text and curves(read()) == []


def test_a_page_that_cannot_be_written_is_reported_once_and_ends_nothing(tmp_path, monkeypatch):
    said = []
    writer = MultiWriter(make_writers(["html"], RunFolder(tmp_path), CONFIG), said.append)
    (tmp_path / FILE).mkdir()
    train(writer, 0, 300)
    writer.close()
    (line,) = said
    assert line.startswith("writer html fails, training goes on")


def test_a_process_that_lost_the_folder_writes_no_page(tmp_path):
    class Lost(RunFolder):
        def is_owned(self):
            return False

    writer = HTMLWriter(Lost(tmp_path), CONFIG)
    train(writer, 0, 200)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_long_run_keeps_few_records_and_all_evaluations(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "_MOST_RECORDS", 50)
    writer = open_page(tmp_path)
    monkeypatch.setattr(writer, "_write", lambda **_: None)
    train(writer, 0, 5000)
    assert len(writer._records) <= 50 and len(writer._evaluations) == 50
    assert writer._records[-1]["step"] == 5000


def test_names_cannot_inject_markup(tmp_path, read):
    writer = open_page(tmp_path)
    writer.write(1, {"eval/<script>x": 1.0})
    writer.write(2, {"eval/<script>x": 2.0})
    assert "script" not in {tag for tag, _ in read().tags}


@pytest.mark.processes
def test_in_a_bucket_the_page_is_an_object(gcs):
    folder = as_path(f"{gcs.bucket()}/run")
    (writer,) = make_writers(["html"], RunFolder(folder), CONFIG)
    train(writer, 0, 200)
    writer.close()
    assert "200 of 400" in (folder / FILE).read_text()
