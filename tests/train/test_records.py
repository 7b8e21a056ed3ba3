"""The files of a run, and the measurement of its time."""

import json
import time

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train import Evaluation, train
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.metrics_files import read_metrics

pytestmark = pytest.mark.medium


def test_a_run_leaves_config_versions_metrics_and_tensorboard_events(tiny, tmp_path):
    seen = []

    def evaluator(context):
        seen.append(context.step)
        return {"psnr": 20.0 + context.step}

    config = tiny("--config.train.steps=4", "--config.train.keep_best=")
    evaluations = [Evaluation(evaluator, every=2)]
    outcome = train(config, tmp_path, evaluations=evaluations, quiet=True)
    assert seen == [2, 4]
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 4
    (environment,) = map(json.loads, (tmp_path / "runs.jsonl").read_text().splitlines())
    assert {"versions", "command", "git_commit", "python"} <= set(environment)
    assert environment["versions"]["jax"]
    records = read_metrics(tmp_path / "metrics.jsonl")
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    assert {"grad_norm", "learning_rate", "images_per_second", "skipped"} <= set(steps[0])
    assert [r["eval/psnr"] for r in records if "eval/psnr" in r] == [22.0, 24.0]
    assert sum(outcome.goodput.values()) == pytest.approx(1.0, abs=1e-3)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_goodput_sums_times_by_kind_and_the_rest_is_other():
    goodput = Goodput()
    with goodput.measure("data"):
        time.sleep(0.05)
    time.sleep(0.05)
    shares = goodput.shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert 0 < shares["data"] < 1
    assert shares["other"] > 0
    assert shares["step"] == 0


def test_a_run_folder_below_a_file_is_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run: the folder cannot be created"):
        train(tiny("--config.train.steps=1"), tmp_path / "file" / "run", evaluations=(), quiet=True)


def test_a_batch_that_does_not_divide_is_refused_with_a_number_that_does(tiny, tmp_path):
    config = tiny("--config.train.accumulation=3")
    with pytest.raises(UserError, match=r"batch_size 8 is not divisible by 3 .* use e\.g\. 9"):
        train(config, tmp_path / "run", evaluations=(), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_model_on_latents_without_an_autoencoder_is_refused(tmp_path):
    from ditfuse_jax.train import load_recipe

    with pytest.raises(UserError, match="needs an autoencoder"):
        train(
            load_recipe("omnigen_pretrain", ["--config.data.batch_size=8"]),
            tmp_path / "run",
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_larger_than_the_embedding_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="vocab_size 100 is too small"):
        train(tiny("--config.model.vocab_size=100"), tmp_path / "run", evaluations=(), quiet=True)


def test_a_damaged_checkpoint_is_named_with_a_remedy(tiny, tmp_path):
    run = tmp_path / "run"
    train(
        tiny("--config.train.steps=2", "--config.train.checkpoint_every=1"),
        run,
        evaluations=(),
        quiet=True,
    )
    for file in (run / "checkpoints" / "2" / "parameters").rglob("*"):
        if file.is_file() and "d/" in str(file):
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"checkpoints/2 is damaged .* remove it to use step 1"):
        train(tiny("--config.train.steps=3"), run, evaluations=(), quiet=True)


def test_a_full_disk_is_reported_in_one_line_with_a_remedy(tiny, tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    def full(self):  # what tensorstore raises, as seen on a full disk
        raise ValueError(
            "RESOURCE_EXHAUSTED: Error writing x: No space left on device [os_error=28]"
        )

    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", full)
    message = r"checkpoints: No space left on device; free space .* same command to continue"
    with pytest.raises(UserError, match=message):
        train(tiny("--config.train.steps=1"), tmp_path / "run", evaluations=(), quiet=True)
