"""Evaluation of a model, and of existing fused images."""

import json
import re

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate import EvaluationOptions, Exports, Folders, evaluate_files
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.runner import evaluate as evaluate_module
from ditfuse_jax.evaluate.runner import fuse_scenes
from ditfuse_jax.images import read_image

PSNR, EN, MSE = "PSNR_clean", "EN", "MSE"


@pytest.fixture
def evaluate(first_source_model, monkeypatch, tmp_path):
    """Evaluates the stand-in; returns the content of report.json."""
    module = "ditfuse_jax.evaluate.runner.evaluated_model"
    monkeypatch.setattr(f"{module}.open_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(f"{module}.load_checkpoint", lambda *_, **__: first_source_model)

    def run(data, output=None, **options):
        out = output or tmp_path / "out"
        options.setdefault("options", EvaluationOptions([EN, MSE]))  # no windows: quick to compile
        evaluate_module.evaluate(
            checkpoint=tmp_path / "run",
            data=data if isinstance(data, Folders) else str(data),
            output=out,
            quiet=True,
            **options,
        )
        return json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)

    return run


class TestEvaluate:
    """`evaluate`."""

    def test_a_model_that_copies_scores_like_the_copy(self, evaluate, make, tmp_path):
        make("photos/x.png", "photos/y.png", "photos/z.png")
        report = evaluate(tmp_path / "photos", count=5, options=EvaluationOptions([PSNR, EN, MSE]))
        assert report["count"] == 5
        for metric, scores in report.items():
            if metric not in ("count", "run", "images", "excluded"):
                assert scores["fused"] == scores["copy_a"], metric
        assert report[PSNR]["fused"] != report[PSNR]["mean"]
        fused = sorted(path.name for path in (tmp_path / "out" / "fused").iterdir())
        assert fused == ["x-2.png", "x.png", "y-2.png", "y.png", "z.png"]
        sheets = sorted(path.name for path in (tmp_path / "out" / "sheets").iterdir())
        assert sheets == ["sheet-1.png", "sheet-2.png"]
        page = (tmp_path / "out" / "report.html").read_text()
        assert not re.search(r'(?:src|href)="(?!data:|#)|url\(|@import', page)

    def test_outputs_are_scored_with_their_own_scene_in_any_batch(self, evaluate, make, tmp_path):
        # Batches finish out of order: wide scenes fill theirs before the tall ones.
        for number, size in enumerate([(64, 32), (32, 64), (32, 64), (64, 32), (32, 64)]):
            make(*(f"in/image{k}/{number}.png" for k in (1, 2)), size=size)
        evaluate(tmp_path / "in", sampling={"batch_size": 2})
        for number in range(5):
            fused = read_image(tmp_path / "out" / "fused" / f"{number}.png")
            source = read_image(tmp_path / "in" / "image1" / f"{number}.png")
            np.testing.assert_array_equal(fused, source)

    def test_stacks_of_three_without_reference_are_scored(self, evaluate, make, tmp_path):
        make(*(f"in/image{k}/x.png" for k in (1, 2, 3)))
        report = evaluate(tmp_path / "in")
        assert PSNR not in report
        assert report[MSE]["fused"] > 0

    def test_the_report_says_how_it_was_made_and_what_no_image_allows(
        self, evaluate, make, tmp_path
    ):
        make(*(f"in/image{k}/x.png" for k in (1, 2, 3)))
        options = EvaluationOptions(["all"], "cddfuse")
        scored = ("EN", "SCD")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate_module, "choose_metrics", lambda *_: scored)
            run = evaluate(tmp_path / "in", task="ivif", value_range="full", options=options)["run"]
        assert (run["task"], run["range"], run["preset"]) == ("ivif", "full", "cddfuse")
        assert run["not computed"] == ["SCD (is defined for two sources, not 3)"]

    def test_sheets_of_an_earlier_run_are_removed(self, evaluate, make, tmp_path):
        make("photos/x.png")
        evaluate(tmp_path / "photos", count=5)
        (tmp_path / "out" / "sheets" / "mine.png").write_text("kept")
        evaluate(tmp_path / "photos", count=4)
        sheets = sorted(path.name for path in (tmp_path / "out" / "sheets").iterdir())
        assert sheets == ["mine.png", "sheet-1.png"]

    def test_an_unknown_task_or_source_creates_no_files(self, evaluate, make, tmp_path):
        make("photos/x.png")
        with pytest.raises(UserError, match="task 'paint' is unknown"):
            evaluate(tmp_path / "photos", task="paint")
        with pytest.raises(UserError, match="nowhere"):
            evaluate(tmp_path / "nowhere")
        assert not (tmp_path / "out").exists()

    def test_weights_without_a_run_need_an_output_folder(self, make, tmp_path):
        make("photos/x.png")
        with pytest.raises(UserError, match=r"is not a run folder: .* with --output"):
            evaluate_module.evaluate(checkpoint="small", data=str(tmp_path / "photos"), quiet=True)

    def test_a_stack_of_different_sizes_is_named(self, evaluate, make, tmp_path):
        make("in/image1/x.png")
        make("in/image2/x.png", size=(36, 40))
        make(*(f"in/image{k}/y.png" for k in (1, 2)))
        report = evaluate(tmp_path / "in")
        assert list(report["images"]) == ["y"]
        assert "36x40" in report["excluded"]["x"] and "40x36" in report["excluded"]["x"]

    def test_a_killed_evaluation_fuses_only_what_is_not_yet_fused(
        self, evaluate, make, tmp_path, monkeypatch
    ):
        stems = [f"{i}" for i in range(5)]
        make(*(f"in/image{k}/{stem}.png" for k in (1, 2) for stem in stems))
        whole = evaluate(tmp_path / "in", output=tmp_path / "whole")
        fused = []
        write = fuse_scenes.write_image

        def killed(path, *rest):
            if len(fused) == 3:
                raise KeyboardInterrupt
            fused.append(path.stem)
            write(path, *rest)

        monkeypatch.setattr(fuse_scenes, "write_image", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tmp_path / "in")
        fused.clear()
        monkeypatch.setattr(
            fuse_scenes,
            "write_image",
            lambda path, *rest: (fused.append(path.stem), write(path, *rest)),
        )
        resumed = evaluate(tmp_path / "in")
        assert fused == stems[3:]
        assert resumed["images"] == whole["images"]
        fused.clear()
        evaluate(tmp_path / "in")
        assert fused == []
        evaluate(tmp_path / "in", sampling={"steps": 7})
        assert fused == stems

    def test_another_methods_images_are_scored_with_the_models(self, evaluate, make, tmp_path):
        make("in/image1/x.png", "in/image2/x.png", "other/x.png")
        report = evaluate(tmp_path / "in", fused={"Other": tmp_path / "other"})
        assert list(report[EN]) == ["fused", "Other", "mean", "max", "copy_a", "copy_b"]
        with pytest.raises(UserError, match="cannot be called 'fused' beside a model"):
            evaluate(tmp_path / "in", fused={"fused": tmp_path / "other"})

    @pytest.mark.parametrize("read", ["sources", "clean", "method", "linked method", "photographs"])
    def test_images_that_are_read_are_never_written_over(self, evaluate, make, tmp_path, read):
        make("vi/x.png", "ir/x.png", "out/fused/x.png")
        taken, vi, ir = (tmp_path / name for name in ("out/fused", "vi", "ir"))
        (tmp_path / "link").symlink_to(taken)
        data, fused = {
            "sources": (Folders((vi, taken)), {}),
            "clean": (Folders((vi, ir), taken), {}),
            "method": (Folders((vi, ir)), {"A": taken}),
            "linked method": (Folders((vi, ir)), {"A": tmp_path / "link"}),
            "photographs": (taken, {}),
        }[read]
        before = (taken / "x.png").read_bytes()
        with pytest.raises(UserError, match=r"would be written over .*: name another .* --output"):
            evaluate(data, fused=fused)
        assert (taken / "x.png").read_bytes() == before
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["fused"]

    def test_a_name_of_another_picture_is_refused_for_a_method(self, evaluate, make, tmp_path):
        make("in/image1/x.png", "in/image2/x.png", "other/x.png")
        for name in ("Fused", "Clean", "View A", "copy A", "autoencoder of clean"):
            with pytest.raises(UserError, match=f"a method cannot be called '{name}'"):
                evaluate(tmp_path / "in", fused={name: tmp_path / "other"})

    def test_all_metrics_in_capitals_are_those_that_a_scene_allows(
        self, evaluate, make, tmp_path, monkeypatch
    ):
        make("in/image1/x.png", "in/image2/x.png")
        monkeypatch.setattr(METRICS, "_entries", {name: METRICS[name] for name in (PSNR, MSE)})
        report = evaluate(tmp_path / "in", options=EvaluationOptions(["ALL"]))
        assert PSNR not in report and report[MSE]["fused"] > 0

    def test_a_model_fuses_folders_of_sources(self, evaluate, make, tmp_path):
        make("vi/x.png", "ir/x.tif", "ir/y.png")
        report = evaluate(Folders((tmp_path / "vi", tmp_path / "ir")))
        assert list(report["images"]) == ["x"] and list(report["excluded"]) == ["y"]

    def test_a_damaged_source_is_excluded_and_the_others_are_fused(self, evaluate, make, tmp_path):
        make(*(f"in/image{k}/{stem}.png" for k in (1, 2) for stem in ("x", "y", "z")))
        (tmp_path / "in" / "image2" / "y.png").write_bytes(b"\x89PNG broken")
        report = evaluate(tmp_path / "in", sampling={"batch_size": 2})
        assert list(report["images"]) == ["x", "z"]
        assert "image2/y.png" in report["excluded"]["y"]


class TestEvaluateFiles:
    """`evaluate_files`."""

    @pytest.fixture
    def score(self, tmp_path):
        def run(*sources):
            return evaluate_files(
                sources=[str(tmp_path / name) for name in sources],
                fused=str(tmp_path / "fused"),
                clean=str(tmp_path / "a"),
                output=tmp_path / "out",
                options=EvaluationOptions([EN], exports=Exports(tmp_path / "tables" / "x.json")),
                quiet=True,
            )

        return run

    def test_files_belong_together_by_stem_whatever_their_format(self, score, make, tmp_path):
        make("a/x.png", "b/x.tif", "fused/x.bmp", "fused/unused.png", "a/y.webp", "b/y.png")
        make("fused/y.png")
        (tmp_path / "fused" / "x.txt").write_text("remarks")
        results = score("a", "b")
        assert list(results.images) == ["x", "y"]
        written = json.loads((tmp_path / "tables" / "x.json").read_text())["run"]
        assert (written["task"], written["clean images"]) == ("fuse", str(tmp_path / "a"))

    @pytest.mark.parametrize(
        ("fused", "message"),
        [
            ((), "fused: no such folder"),
            (("fused/y.png",), "fused: no image named x"),
        ],
        ids=["no folder", "no image"],
    )
    def test_missing_folders_are_named_before_anything_is_created(
        self, score, make, tmp_path, fused, message
    ):
        make("a/x.png", "b/x.png", *fused)
        with pytest.raises(UserError, match=message):
            score("a", "b")
        assert not (tmp_path / "out").exists() and not (tmp_path / "tables").exists()
