"""`evaluate --suite degraded`: the fusion of degraded sources against that of clean ones."""

import dataclasses
import json
import math
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.cli import main
from ditfuse_jax.degrade.defects import apply_defect
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate import evaluate_suite
from ditfuse_jax.evaluate.runner import evaluate_degraded as degraded
from ditfuse_jax.evaluate.runner.asked_repairs import repair_requests
from ditfuse_jax.evaluate.runner.evaluate_degraded import degraded_sources, evaluate_degraded
from ditfuse_jax.evaluate.runner.suites import SUITES, Condition, EvaluationSet, Suite
from ditfuse_jax.images import write_image
from ditfuse_jax.prompts.requests import Request
from tests.align.scenes import labels, render

EVALUATE_SUITE = "ditfuse_jax.evaluate.runner.evaluate_suite"
SETS = (
    EvaluationSet("cameras", "Two cameras", ("cameras/vi", "cameras/ir"), "ivif", task="ivif"),
    EvaluationSet("focus", "Focus", ("focus/a", "focus/b"), "mff", task="mff"),
)
CONDITIONS = (Condition("noisy", (0.0, 1.0)), Condition("dark", (1.0,), "visible"))


def smooth(seed):
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(48) * rng.uniform(1, 3), np.arange(48) * rng.uniform(1, 3))
    return np.repeat(np.clip(ramp + 40, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def root(tmp_path) -> Path:
    for number, folder in enumerate(("cameras/vi", "cameras/ir", "focus/a", "focus/b")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for stem in ("x", "y", "z"):
            write_image(tmp_path / "data" / folder / f"{stem}.png", smooth(10 * number + ord(stem)))
    return tmp_path / "data"


@pytest.fixture
def run(root, tmp_path):
    def run(conditions=CONDITIONS, **options):
        suite = Suite("Small", root, SETS, conditions)
        options = {"output": tmp_path / "out", "quiet": True, "count": 1, **options}
        return evaluate_degraded(suite, **options)

    return run


def test_each_baseline_is_compared_with_itself_by_kind_and_strength(run, tmp_path):
    results = run(json=tmp_path / "scores" / "x.json")
    assert results.methods == ["mean", "max", "copy_a", "copy_b"]
    weak, strong = (results.mean(("noisy", s), "PSNR_clean", "mean") for s in (0.0, 1.0))
    assert weak > strong + 6
    # Darkness is on the visible image alone where there are two cameras.
    assert results.mean(("dark", 1.0), "PSNR_clean", "copy_b", "cameras") == math.inf
    assert results.mean(("dark", 1.0), "PSNR_clean", "copy_b", "focus") < 30
    written = json.loads((tmp_path / "out" / "small.json").read_text())
    assert written == json.loads((tmp_path / "scores" / "x.json").read_text())
    of_mean = written["sets"]["focus"]["summary"]["noisy"]["1"]["SSIM_clean"]["mean"]
    assert of_mean == pytest.approx(results.mean(("noisy", 1.0), "SSIM_clean", "mean", "focus"))
    table = (tmp_path / "out" / "small.md").read_text()
    assert "## All sets, 2 images" in table and "| dark | 1 |" in table and "| ∞ |" in table
    assert (tmp_path / "out" / "focus" / "small-sheet.png").is_file()


def test_a_model_is_fused_scored_and_continued(run, first_source_model, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{EVALUATE_SUITE}.load_trained", lambda *_, **__: first_source_model)
    conditions = (Condition("dark", (1.0,)),)
    first = run(conditions, checkpoint=tmp_path / "run")
    assert first.methods[0] == "fused"
    # The stand-in copies source A.
    for metric in ("PSNR_clean", "SSIM_clean", "VIF"):
        values = [first.mean(("dark", 1.0), metric, m) for m in ("fused", "copy_a")]
        assert values[0] == pytest.approx(values[1])
    files = sorted((tmp_path / "out").rglob("fused/*.png"))
    assert len(files) == 6  # of two sets: clean, dark, dark and repaired
    before = [file.stat().st_mtime_ns for file in files]
    monkeypatch.setattr(
        "ditfuse_jax.evaluate.runner.evaluate_degraded.compute_metrics_of_candidates", None
    )
    again = run(conditions, checkpoint=tmp_path / "run")
    assert before == [file.stat().st_mtime_ns for file in files]
    assert again.values == first.values


def test_a_model_is_asked_to_repair_what_it_can(run, first_source_model, tmp_path, monkeypatch):
    sampling = first_source_model.sampling.override({"apply_requests": True})
    model = dataclasses.replace(first_source_model, sampling=sampling)
    monkeypatch.setattr(f"{EVALUATE_SUITE}.load_trained", lambda *_, **__: model)
    stripes, rain = Condition("stripes", (1.0,), "visible"), Condition("rainy", (1.0,))
    sheets = []
    monkeypatch.setattr(degraded, "write_sheet", lambda *arguments: sheets.append(arguments[2]))
    results = run((stripes, rain), checkpoint=tmp_path / "run")
    # Without a repair there is no empty column.
    run((rain,), checkpoint=tmp_path / "run", output=tmp_path / "other")
    both = ["Source A", "Source B"]
    expected = [[*both, "fused", "repaired", "mean", "max"], [*both, "fused", "mean", "max"]]
    assert sheets[::2] == expected and sheets[1::2] == expected
    assert results.methods[:2] == ["fused", "repaired"]
    # Image A, which the stand-in copies, has stripes, which a repair removes.
    fused, repaired = (results.mean(("stripes", 1.0), "PSNR_clean", m) for m in results.methods[:2])
    assert repaired > fused + 4
    assert math.isnan(results.mean(("rainy", 1.0), "PSNR_clean", "repaired"))
    table = (tmp_path / "out" / "small.md").read_text()
    line = next(line for line in table.splitlines() if line.startswith("| rainy"))
    assert line.split("|")[4].strip() == "–"
    images = json.loads((tmp_path / "out" / "small.json").read_text())["sets"]["focus"]["images"]
    assert images["y"]["rainy"]["1"]["VIF"]["repaired"] is None
    (file,) = (tmp_path / "out" / "cameras" / "fused").glob("*-stripes-1-repaired.png")
    assert Image.open(file).info["by image operations"] == "repair stripes first"


@pytest.mark.parametrize("apply", [True, False])
def test_a_model_that_cannot_repair_or_is_compared_with_the_sources_is_not_asked(
    apply, root, first_source_model
):
    sampling = first_source_model.sampling.override({"apply_requests": apply})
    noisy = (Condition("noisy", (1.0,)),)
    for against in ("fusion", "sources"):
        suite = Suite("Small", root, SETS, noisy, against)
        expected = {"noisy": Request("repair", defect="noisy")}
        asked = apply and against == "fusion"
        assert repair_requests(suite, True, sampling) == (expected if asked else {})


def test_suites_that_share_a_folder_keep_their_own_files(root, tmp_path, monkeypatch):
    def suite(title, condition):
        return Suite(title, root, SETS[1:], (condition,))

    def contents():
        found = sorted((tmp_path / "out").rglob("*.*"))
        return {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in found}

    suites = {"night": suite("At night", CONDITIONS[1]), "grain": suite("Grain", CONDITIONS[0])}
    monkeypatch.setattr(SUITES, "_entries", suites)
    options = {"output": tmp_path / "out", "quiet": True, "count": 1}
    evaluate_degraded("night", **options)
    alone = contents()
    assert {"night.json", "night.md", "focus/night-sheet.png"} < alone.keys()
    assert len(alone) == 4
    evaluate_degraded(suites["grain"], **options)
    both = contents()
    assert alone.items() <= both.items() and {"grain.json", "grain.md"} < both.keys()
    monkeypatch.setattr(degraded, "compute_metrics_of_candidates", None)  # all scores are kept
    evaluate_degraded("night", **options)
    assert contents() == both


def test_degraded_sources_depend_on_the_scene_and_nothing_else():
    sources = (smooth(1), smooth(2))
    options = {"cameras": True, "key": "set/x"}
    one, again = (degraded_sources(sources, CONDITIONS[0], 0.5, **options) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    other = degraded_sources(sources, CONDITIONS[0], 0.5, cameras=True, key="set/y")
    assert (one[0] != other[0]).any() and (one[0] - sources[0] != one[1] - sources[1]).any()


def test_a_damaged_source_is_excluded_by_name(run, root, tmp_path):
    (root / "focus" / "a" / "y.png").write_bytes(b"no image")
    results = run()
    assert list(results.excluded["focus"]) == ["y"] and not results.values["focus"]
    assert "Excluded from focus: y: " in (tmp_path / "out" / "small.md").read_text()


def test_a_bad_count_an_unknown_defect_and_the_wrong_kind_of_suite_are_one_line(run, root):
    with pytest.raises(UserError, match="count must be at least 1"):
        run(count=0)
    with pytest.raises(UserError, match="defect 'snow' is unknown; choose from"):
        run((Condition("snow", (1.0,)),))
    with pytest.raises(UserError, match="has no conditions: use evaluate_suite"):
        run(())
    with pytest.raises(UserError, match="has conditions: use evaluate_degraded"):
        evaluate_suite(Suite("Small", root, SETS, CONDITIONS), output=root / "out")


@pytest.mark.parametrize(
    ("suite", "options", "message"),
    [
        ("degraded", ["--metrics", "EN"], "--suite degraded has its own metrics"),
        ("dev", ["--count", "2"], "--suite dev has its own data"),
        ("dev", ["--json", "x.json"], "--suite dev has its own data"),
        ("degraded", ["--csv", "x.csv"], "--suite has its own data"),
    ],
)
def test_options_of_the_other_suite_are_refused_by_name(tmp_path, capsys, suite, options, message):
    code = main(["evaluate", "--suite", suite, "-o", str(tmp_path / "out"), *options])
    assert code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_suite_names_known_defects_at_three_strengths():
    suite = SUITES["degraded"]
    assert len(suite.conditions) == 9 and len(suite.sets) == 4
    assert all(len(condition.strengths) == 3 for condition in suite.conditions)


def test_the_reason_of_an_image_that_was_not_fused_is_kept(
    run, root, first_source_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(f"{EVALUATE_SUITE}.load_trained", lambda *_, **__: first_source_model)
    (root / "focus" / "a" / "y.png").write_bytes(b"no image")
    results = run((Condition("dark", (1.0,)),), checkpoint=tmp_path / "run")
    assert "y.png: is not an image" in results.excluded["focus"]["y"]


def test_one_scene_of_a_set_is_in_memory(run, monkeypatch):
    alive: list[weakref.ref] = []
    counts = []
    opened, score = degraded.open_scenes, degraded._score

    def tracked(read):
        def run():
            scene = read()
            alive.append(weakref.ref(scene.sources[0]))
            return scene

        return run

    def open_tracked(*arguments):
        found = opened(*arguments)
        return dataclasses.replace(
            found, readers={stem: tracked(read) for stem, read in found.readers.items()}
        )

    def counted(*arguments):
        scores = score(*arguments)
        counts.append(sum(one() is not None for one in alive))
        return scores

    monkeypatch.setattr(degraded, "open_scenes", open_tracked)
    monkeypatch.setattr(degraded, "_score", counted)
    run((Condition("dark", (1.0,)),), count=2)
    assert counts == [1] * 4


class TestMisaligned:
    """`--suite misaligned`: fusions of shifted sources against the registered sources."""

    @pytest.fixture
    def results(self, root, tmp_path):
        rng = np.random.default_rng(0)
        for folder in ("vi", "ir"):
            for stem in ("x", "y", "z"):
                texture = cv2.GaussianBlur(rng.random((64, 64), np.float32), (0, 0), 1.5)
                grey = np.uint8(255 * (texture - texture.min()) / np.ptp(texture))
                write_image(root / "cameras" / folder / f"{stem}.png", np.dstack([grey] * 3))
        suite = Suite(
            "Shifts", root, SETS[:1], (Condition("shifted", (0.5, 1.0), "infrared"),), "sources"
        )
        return evaluate_degraded(suite, output=tmp_path / "out", quiet=True)

    def test_an_image_of_the_shifted_source_loses_and_one_of_the_other_does_not(self, results):
        clean, shifted = (("clean", 0.0), ("shifted", 1.0))
        for metric in ("Qabf", "VIF", "SSIM"):
            a, b = (
                [results.mean(case, metric, m) for case in (clean, shifted)]
                for m in ("copy_a", "copy_b")
            )
            assert a[0] == a[1]
            assert b[1] < b[0] - 0.1
        means = [results.mean(c, "VIF", "mean") for c in (clean, ("shifted", 0.5), shifted)]
        assert means == sorted(means, reverse=True)

    def test_sources_whose_shift_is_undone_lose_next_to_nothing(self, root, tmp_path):
        for stem in ("x", "y", "z"):
            image = render(labels(ord(stem), 96, 128), 1)
            for folder, shown in (("vi", image), ("ir", image // 2 + 60)):
                write_image(root / "cameras" / folder / f"{stem}.png", shown)
        suite = Suite(
            "Shifts", root, SETS[:1], (Condition("shifted", (0.75,), "infrared"),), "sources"
        )
        lost = {}
        for align in (None, "residual"):
            results = evaluate_degraded(suite, output=tmp_path / "out", align=align, quiet=True)
            clean, shifted = (
                results.mean(case, "Qabf", "mean") for case in (("clean", 0.0), ("shifted", 0.75))
            )
            lost[align] = clean - shifted
        assert lost["residual"] < lost[None] / 3
        assert "(`residual`)" in (tmp_path / "out" / "shifts.md").read_text()

    def test_an_alignment_that_cuts_or_a_suite_without_it_is_refused(self):
        for align, against in (("auto", "sources"), ("residual", "fusion")):
            suite = Suite("Shifts", Path(), SETS[:1], CONDITIONS, against)
            with pytest.raises(UserError, match=f"--align {align} does not serve the suite 'Sh"):
                evaluate_degraded(suite, output=Path(), align=align)

    def test_the_first_row_of_the_table_is_that_of_the_registered_sources(self, results, tmp_path):
        table = (tmp_path / "out" / "shifts.md").read_text()
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert rows[0].startswith("| Qabf | strength |")
        assert rows[2].startswith("| clean |  |") and rows[3].startswith("| shifted | 0.5 |")
        written = json.loads((tmp_path / "out" / "shifts.json").read_text())
        assert list(written["summary"]) == ["clean", "shifted"]


def test_a_shift_has_the_length_that_its_strength_says(root):
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.random((128, 128), np.float32), (0, 0), 2)
    image = np.dstack([np.uint8(255 * (texture - texture.min()) / np.ptp(texture))] * 3)
    for strength in (0.25, 1.0):
        moved = apply_defect(image, "shifted", strength, np.random.default_rng(1))
        found, _ = cv2.phaseCorrelate(np.float32(image[..., 0]), np.float32(moved[..., 0]))
        assert np.hypot(*found) == pytest.approx(4 * strength, abs=0.3)
