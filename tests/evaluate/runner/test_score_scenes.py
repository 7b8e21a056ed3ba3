"""Scoring a set of scenes: which image gets which score, exclusions, the cache."""

import functools
import json

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.baselines import BASELINES
from ditfuse_jax.evaluate.metrics import METRIC_PRESETS, compute_metrics, register_metric
from ditfuse_jax.evaluate.runner import score_scenes
from ditfuse_jax.evaluate.runner.methods import method_files
from ditfuse_jax.evaluate.runner.scenes import Folders, Scenes, open_scenes
from ditfuse_jax.evaluate.runner.score_cache import ScoreCache, code_digest
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.images import read_image, write_image

EN, MSE, PSNR, SSIM = "EN", "MSE", "PSNR_clean", "SSIM"
NAMES = (EN, MSE)  # no windows: quick to compile


@pytest.fixture
def make(make):
    """Writes small images."""
    return functools.partial(make, size=(9, 14))


@pytest.fixture
def scored(monkeypatch):
    """Every image that was actually scored, as bytes, in order."""
    images = []
    original = score_scenes.compute_metrics_of_candidates

    def record(candidates, *rest):
        images.extend(image.tobytes() for image in candidates)
        return original(candidates, *rest)

    monkeypatch.setattr(score_scenes, "compute_metrics_of_candidates", record)
    return images


@pytest.fixture
def run(tmp_path):
    """Scores `tmp_path/METHOD/*` against `a/` and `b/`."""

    def run(*methods, names=NAMES, clean=None, preset="canonical", **options):
        folders = Folders((tmp_path / "a", tmp_path / "b"), clean)
        scenes = open_scenes(folders)
        files, lacking = method_files({name: tmp_path / name for name in methods}, scenes)
        scenes = Scenes(scenes.readers, {**scenes.excluded, **lacking})
        cache = ScoreCache(tmp_path / "scores", preset, names)
        return score_scenes.score_scenes(scenes, files, names, cache, quiet=True, **options)

    return run


def pairs(*stems: str) -> list[str]:
    return [f"{folder}/{stem}.png" for stem in stems for folder in ("a", "b")]


def test_each_method_gets_the_score_of_its_own_image(make, run, tmp_path):
    make(*pairs("x", "y"), "one/x.png", "one/y.png", "two/x.png", "two/y.png")
    results = run("one", "two")
    assert results.methods == ["one", "two", *BASELINES]
    for stem in ("x", "y"):
        sources = [read_image(tmp_path / folder / f"{stem}.png") for folder in ("a", "b")]
        outputs = {name: read_image(tmp_path / name / f"{stem}.png") for name in ("one", "two")}
        outputs |= {name: fuse(sources) for name, fuse in BASELINES.items()}
        for method, output in outputs.items():
            for metric, value in compute_metrics(output, sources, None, NAMES).items():
                assert results.images[stem][metric][method] == pytest.approx(value, rel=1e-6)


def test_a_second_run_scores_nothing_and_returns_the_same(make, run, scored):
    make(*pairs("x", "y"), "one/x.png", "one/y.png")
    first = run("one")
    assert len(scored) == 2 * 5
    assert run("one").images == first.images
    assert len(scored) == 2 * 5


def test_a_killed_run_continues_and_scores_only_the_rest(make, run, scored, monkeypatch):
    stems = [f"{i}" for i in range(5)]
    make(*pairs(*stems), *(f"one/{stem}.png" for stem in stems))
    write = ScoreCache.write
    written = []

    def killed(self, stem, *rest):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(stem)
        write(self, stem, *rest)

    monkeypatch.setattr(ScoreCache, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run("one")
    monkeypatch.setattr(ScoreCache, "write", write)
    scored.clear()
    resumed = run("one")
    assert len(scored) == 2 * 5  # the fourth scene was scored but not kept
    assert list(resumed.images) == stems


@pytest.mark.parametrize("what", ["a/x.png", "b/x.png", "one/x.png"])
def test_an_image_of_other_pixels_is_scored_again(make, run, scored, tmp_path, what):
    make(*pairs("x", "y"), "one/x.png", "one/y.png")
    run("one")
    scored.clear()
    make(what)
    results = run("one")
    output = read_image(tmp_path / "one" / "x.png").tobytes()
    assert (output in scored) and len(scored) == (1 if what == "one/x.png" else 5)
    sources = [read_image(tmp_path / folder / "x.png") for folder in ("a", "b")]
    expected = compute_metrics(read_image(tmp_path / "one" / "x.png"), sources, None, NAMES)
    assert results.images["x"][MSE]["one"] == pytest.approx(expected[MSE], rel=1e-6)


def test_renamed_or_rewritten_files_of_equal_pixels_keep_their_scores(make, run, scored, tmp_path):
    make(*pairs("x"), "one/x.png")
    run("one")
    scored.clear()
    image = read_image(tmp_path / "one" / "x.png")
    (tmp_path / "one" / "x.png").unlink()
    write_image(tmp_path / "one" / "x.bmp", image)
    run("one")
    assert scored == []


def test_an_added_method_or_metric_is_scored_alone(make, run, scored, tmp_path):
    make(*pairs("x"), "one/x.png", "two/x.png")
    run("one")
    scored.clear()
    run("one", "two")
    assert scored == [read_image(tmp_path / "two" / "x.png").tobytes()]
    scored.clear()
    results = run("one", "two", names=(*NAMES, "SD"))
    assert len(scored) == 6 and set(results.metrics) == {*NAMES, "SD"}


def test_changed_metric_code_or_another_preset_voids_old_scores(make, run, scored, monkeypatch):
    make(*pairs("x"), "one/x.png")
    run("one")
    for change in ("preset", "code"):
        scored.clear()
        if change == "code":
            monkeypatch.setattr(
                "ditfuse_jax.evaluate.runner.score_cache.code_digest", lambda *_: "other"
            )
        run("one", preset="linfeng")
        assert len(scored) == 5, change


def test_changed_code_of_a_registered_metric_voids_its_scores_only(tmp_path, own_metrics):
    extension = tmp_path / "red_metric.py"
    extension.write_text(
        "from ditfuse_jax.evaluate.metrics import register_metric\n"
        "register_metric('RED', needs='host')(lambda rgb: rgb[..., 0].mean())\n"
    )
    load_extensions([str(extension)])
    before = code_digest([EN]), code_digest([EN, "RED"])
    extension.write_text(extension.read_text().replace("mean", "max"))
    after = code_digest([EN]), code_digest([EN, "RED"])
    assert before[0] == after[0] and before[1] != after[1]


def test_a_changed_helper_in_another_extension_voids_the_scores(tmp_path, own_metrics):
    helper, extension = tmp_path / "red_helper.py", tmp_path / "helped_metric.py"
    helper.write_text("def brightness(rgb): return rgb[..., 0].mean()\n")
    extension.write_text(
        "from ditfuse_jax.evaluate.metrics import register_metric\n"
        "from ditfuse_extension_red_helper import brightness\n"
        "register_metric('HELPED', needs='host')(lambda rgb: brightness(rgb))\n"
    )
    load_extensions([str(helper), str(extension)])
    before = code_digest(["HELPED"])
    assert code_digest(["HELPED"]) == before
    helper.write_text(helper.read_text().replace("mean", "max"))
    assert code_digest(["HELPED"]) != before


def test_scores_of_a_metric_without_a_file_are_not_taken_from_the_cache(own_metrics):
    space = {"register_metric": register_metric, "__name__": "no_file"}
    exec("@register_metric('CELL', needs='host')\ndef cell(rgb): return rgb.mean()", space)
    assert code_digest(["CELL"]) != code_digest(["CELL"])


def test_changed_code_of_a_registered_preset_voids_its_scores_only(tmp_path, monkeypatch):
    monkeypatch.setattr(METRIC_PRESETS, "_entries", {**METRIC_PRESETS})
    extension = tmp_path / "halved_preset.py"
    extension.write_text(
        "import dataclasses\n"
        "from ditfuse_jax.evaluate.metrics import METRIC_PRESETS, METRICS\n"
        "from ditfuse_jax.evaluate.metrics.presets import MetricPreset\n"
        "canonical = METRICS['EN']\n"
        "def halved(images): return canonical.function(images) / 2\n"
        "metric = dataclasses.replace(canonical, function=halved)\n"
        "METRIC_PRESETS.register('halved', MetricPreset('halved', {'EN': metric}))\n"
    )
    load_extensions([str(extension)])
    digests = [code_digest([EN], preset) for preset in ("canonical", "halved")]
    extension.write_text(extension.read_text().replace("/ 2", "/ 3"))
    changed = [code_digest([EN], preset) for preset in ("canonical", "halved")]
    assert changed[0] == digests[0] and changed[1] != digests[1]


def test_a_damaged_cache_file_is_ignored(make, run, scored, tmp_path):
    make(*pairs("x"), "one/x.png")
    first = run("one")
    for text in ("", "{", "[]", '{"one": 3}', '{"one": {"fingerprint": 1, "scores": {}}}'):
        (tmp_path / "scores" / "x.json").write_text(text)
        scored.clear()
        assert run("one").images == first.images
        assert len(scored) == 5


def test_the_cache_keeps_infinite_scores(make, run, tmp_path):
    make(*pairs("x"), "one/x.png")
    results = run("one", names=(PSNR,), clean=tmp_path / "one")
    assert results.images["x"][PSNR]["one"] == np.inf
    assert run("one", names=(PSNR,), clean=tmp_path / "one").images == results.images


def test_damaged_missing_and_unequal_files_are_excluded_by_name_from_all_methods(
    make, run, tmp_path
):
    make(*pairs("good", "cut", "text", "size", "alone", "lost"))
    for name in ("one", "two"):
        make(*(f"{name}/{stem}.png" for stem in ("good", "cut", "text", "size", "alone")))
    make("one/lost.png")
    cut = tmp_path / "b" / "cut.png"
    cut.write_bytes(cut.read_bytes()[:150])
    (tmp_path / "two" / "text.png").write_text("no image")
    make("one/size.png", size=(9, 13))
    (tmp_path / "b" / "alone.png").unlink()
    results = run("one", "two")
    assert list(results.images) == ["good"]
    reasons = {stem: results.excluded[stem] for stem in ("cut", "text", "size", "alone", "lost")}
    assert len(results.excluded) == 5
    assert "b/cut.png: is damaged or truncated" in reasons["cut"]
    assert "two/text.png: is not an image" in reasons["text"]
    assert "one/size.png is 13x9" in reasons["size"]
    assert "b: no image named alone" in reasons["alone"]
    assert "two: no image named lost" in reasons["lost"]
    assert results.methods[:2] == ["one", "two"]


def test_nothing_left_to_score_is_an_error_with_the_first_reason(make, run, tmp_path):
    make(*pairs("x"))
    make("one/x.png", size=(5, 5))
    with pytest.raises(UserError, match=r"all 1 image\(s\) were excluded \(x: .*one/x.png is 5x5"):
        run("one")


def test_a_metric_that_is_impossible_for_an_image_is_missing_or_excludes_it(make, run):
    make(*pairs("large"), "one/large.png", size=(20, 20))
    make(*pairs("small"), "one/small.png")  # 9 pixels, less than SSIM's window
    results = run("one", names=(EN, SSIM))
    assert set(results.images["small"]) == {EN} and set(results.images["large"]) == {EN, SSIM}
    why = "needs sides of at least 11 pixels, got 14x9"
    assert results.impossible == {SSIM: {"small": why}}
    results = run("one", names=(EN, SSIM), strict=True)
    assert list(results.images) == ["large"]
    assert "needs sides of at least 11" in results.excluded["small"]


def test_a_full_disk_is_an_error_and_not_an_excluded_image(make, run, monkeypatch):
    make(*pairs("x", "y"), "one/x.png", "one/y.png")

    def full(*_):
        raise UserError("cannot be written (No space left on device)")

    monkeypatch.setattr("ditfuse_jax.evaluate.runner.score_cache.write_text", full)
    with pytest.raises(UserError, match="No space left"):
        run("one")


def test_the_cache_is_json_with_a_fingerprint_per_method(make, run, tmp_path):
    make(*pairs("x"), "one/x.png")
    run("one")
    kept = json.loads((tmp_path / "scores" / "x.json").read_text())
    assert list(kept) == ["one", *BASELINES]
    assert len({row["fingerprint"] for row in kept.values()}) == 5
