"""`ditfuse evaluate` and `ditfuse bench`: what they report."""

import json
import math
import re

import pytest

from ditfuse_jax.bench import bench
from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image, write_image

pytestmark = pytest.mark.medium


def strict_json(text: str):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.slow
def test_a_model_is_scored_with_its_baselines(checkpoint, tmp_path, capsys):
    pytest.importorskip("skimage")
    options = ["--checkpoint", str(checkpoint), "--count", "2", "--max-side", "64"]
    assert main(["evaluate", *options, "--steps", "1", "-o", str(tmp_path / "out")]) == 0
    report = strict_json((tmp_path / "out" / "report.json").read_text())
    assert {"fused", "mean", "copy_a", "copy_b"} <= set(report["PSNR_clean"])
    assert all(math.isfinite(value) for value in report["PSNR_clean"].values())
    assert report["count"] == 2
    assert report["run"]["checkpoint"] == "tiny, step 2"
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert [path.name for path in (tmp_path / "out" / "sheets").iterdir()] == ["sheet-1.png"]
    assert len(list((tmp_path / "out" / "fused").iterdir())) == 2
    assert "PSNR to clean" in capsys.readouterr().out


def test_fused_images_of_other_methods_are_scored(stacks, tmp_path):
    for name in ("fused", "clean"):
        (tmp_path / name).mkdir()
        for path in (stacks / "image1").iterdir():
            write_image(tmp_path / name / path.name, read_image(path))
    options = ["--a", stacks / "image1", "--b", stacks / "image2", "-o", tmp_path / "out"]
    options += ["--fused", tmp_path / "fused", "--clean", tmp_path / "clean"]
    assert main(["evaluate", *map(str, options)]) == 0
    report = strict_json((tmp_path / "out" / "report.json").read_text())
    assert report["PSNR_clean"]["fused"] is None  # infinite: the output equals the reference
    assert report["SSIM_clean"]["fused"] == pytest.approx(1.0)
    assert report["PSNR_clean"]["copy_b"] < 10
    assert set(report["images"]) == {"one", "two", "three"}


def test_scores_in_a_file_need_no_folder_for_a_report(stacks, tmp_path, capsys):
    before = set(tmp_path.iterdir())
    options = ["--a", stacks / "image1", "--b", stacks / "image2", "--fused", stacks / "image1"]
    options += ["--metrics", "MSE", "--json", tmp_path / "new" / "scores.json"]
    assert main(["evaluate", *map(str, options)]) == 0
    scores = strict_json((tmp_path / "new" / "scores.json").read_text())
    assert set(scores["images"]) == {"one", "two", "three"}
    assert set(tmp_path.iterdir()) - before == {tmp_path / "new"}
    assert "mean of 3 images" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["train", "sample", "data"])
def test_benchmarks_print_one_json_object(what, tiny_overrides, capsys):
    assert main(["bench", what, "--repeats", "2", "--json", *tiny_overrides]) == 0
    result = strict_json(capsys.readouterr().out)
    assert result["benchmark"] == what
    assert result["repeats"] == 2
    assert result["images_per_second"] > 0
    assert ("tflops_per_device" in result) == (what != "data")


@pytest.mark.slow
def test_a_benchmark_of_heun_reports_its_settings_and_about_twice_the_flops_of_euler():
    tiny = ("--config.data.crop=(32, 32)", "--config.data.batch_size=2", "--config.sample.steps=9")
    euler, heun = (
        bench("sample", "nano_m3", [*tiny, f"--config.sample.solver={solver}"], repeats=1)
        for solver in ("euler", "heun")
    )
    assert (euler["solver"], heun["solver"], heun["batch_size"]) == ("euler", "heun", 2)
    assert 1.4 < heun["model_gflop_per_image"] / euler["model_gflop_per_image"] < 2
