"""`evaluate --suite`: published results, baselines and optionally a model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate import evaluate_suite
from ditfuse_jax.evaluate.metrics import TASK_METRICS
from ditfuse_jax.evaluate.runner.evaluate_suite import present_sets, published_methods
from ditfuse_jax.evaluate.runner.suites import SUITES, EvaluationSet, Suite
from ditfuse_jax.images import write_image
from ditfuse_jax.sample.standard_prompts import STANDARD_TASKS

EN, MSE = "EN", "MSE"
SETS = (
    EvaluationSet("first", "First", ("first/vi", "first/ir"), "ivif", "first/published", "ivif"),
    EvaluationSet("absent", "Absent", ("absent/a", "absent/b"), "mff"),
    EvaluationSet("last", "Last", ("last/a", "last/b"), "mff", None, "mff", ".jpg", "All JPEG."),
)


@pytest.fixture
def root(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    folders = ("first/vi", "first/ir", "first/published/One", "first/published/Two")
    for folder in (*folders, "last/a", "last/b"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for stem in ("x", "y"):
            image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            write_image(tmp_path / "data" / folder / f"{stem}.png", image)
    return tmp_path / "data"


@pytest.fixture
def run(root, tmp_path):
    def run(**options):
        suite = Suite("Two sets", root, SETS)
        return evaluate_suite(
            suite, output=tmp_path / "out", metrics=[EN, MSE], quiet=True, **options
        )

    return run


def test_published_methods_are_in_the_tables_and_missing_sets_are_skipped_by_name(
    run, tmp_path, capsys
):
    results = run()
    assert list(results) == ["first", "last"]
    assert results["first"].methods == ["One", "Two", "mean", "max", "copy_a", "copy_b"]
    assert results["last"].methods == ["mean", "max", "copy_a", "copy_b"]
    assert re.search("skipped absent: no .*absent/a", capsys.readouterr().err)
    out = tmp_path / "out"
    for name in ("first", "last"):
        names = {path.name for path in (out / name).iterdir()}
        assert {"report.html", "report.json", "scores.json", "scores.csv"} <= names
        assert {"scores-summary.csv", "scores.md", "scores.tex"} <= names
        assert set(json.loads((out / name / "scores.json").read_text())["images"]) == {"x", "y"}
    overview = (out / "overview.md").read_text()
    assert "Skipped because their data is missing: Absent" in overview
    assert "| One |" in overview and "*copy A*" in overview and "All JPEG." in overview
    page = (out / "overview.html").read_text()
    assert "Absent" in page and "first/report.html" in page
    assert "<dt>metrics</dt><dd>canonical</dd>" in page
    assert not re.search(r"https?://|url\(|@import|src=", page)


def test_a_model_is_first_and_its_images_are_saved_in_the_sets_format(
    run, tmp_path, first_source_model, monkeypatch
):
    monkeypatch.setattr(
        "ditfuse_jax.evaluate.runner.evaluate_suite.load_trained",
        lambda *_, **__: first_source_model,
    )
    results = run(checkpoint=tmp_path / "run")
    assert results["first"].methods[:3] == ["fused", "One", "Two"]
    assert results["last"].primary == "fused"
    run_facts = json.loads((tmp_path / "out" / "last" / "report.json").read_text())["run"]
    assert run_facts["checkpoint"] == "first source" and run_facts["solver"] == "euler"
    # The stand-in copies source A: exactly as PNG, nearly as JPEG.
    first, last = (results[name].summary()[MSE] for name in ("first", "last"))
    assert first["fused"] == first["copy_a"]
    assert last["fused"] != last["copy_a"]
    fused = tmp_path / "out" / "last" / "fused"
    assert sorted(path.name for path in fused.iterdir()) == ["x.jpg", "y.jpg"]
    with Image.open(fused / "x.jpg") as image:
        assert isinstance(image, JpegImageFile)
        tables = image.quantization
    assert tables[0][0] == 2  # of quality 95; 16 at quality 50
    assert "`fused` is first source" in (tmp_path / "out" / "overview.md").read_text()


def test_the_folder_that_is_missing_is_named_and_hidden_folders_are_no_methods(tmp_path, capsys):
    for folder in ("first/vi", "first/ir", "first/published/One", "first/published/.checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "absent" / "a").mkdir(parents=True)
    _, present, _ = present_sets(Suite("Sets", tmp_path, SETS[:2]), None)
    assert f"skipped absent: no {tmp_path / 'absent' / 'b'}\n" == capsys.readouterr().err
    assert list(published_methods(present[0], tmp_path)) == ["One"]


def test_no_data_at_all_is_an_error(tmp_path):
    with pytest.raises(UserError, match="data with --root"):
        evaluate_suite("dev", output=tmp_path / "out", root=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_suites_name_known_tasks_and_metrics_and_each_set_once(suite):
    names = [s.name for s in suite.sets]
    assert len(set(names)) == len(names)
    for s in suite.sets:
        assert s.metrics_of in TASK_METRICS and s.task in STANDARD_TASKS and len(s.sources) >= 2
        assert s.suffix in (".png", ".jpg")


def test_the_dev_suite_finds_its_data():
    root = Path(__file__).parents[4] / "shared" / "data"
    if not root.is_dir():
        pytest.skip("../shared/data is absent")
    for s in SUITES["dev"].sets:
        for folder in (*s.sources, *([s.published] if s.published else [])):
            assert (root / folder).is_dir(), folder
