"""Every start of a run says where it starts and what changed, and loses nothing of earlier ones."""

import json
import shutil

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train import Evaluation, run_lock, train
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.run_lock import acquire
from ditfuse_jax.train.start import Found, start_line

pytestmark = pytest.mark.medium


@pytest.fixture
def lines(tiny, tmp_path, capsys):
    """Trains in one folder; returns the lines that are printed, without those of the bar."""

    def run(*overrides, **arguments):
        train(tiny(*overrides), tmp_path / "run", **({"evaluations": ()} | arguments))
        text = capsys.readouterr().err.replace("\r", "\n")
        return [line for line in text.splitlines() if line.strip() and "img/s" not in line]

    return run


def steps(folder):
    return [r["step"] for r in read_metrics(folder / "metrics.jsonl") if "loss" in r]


@pytest.mark.slow
def test_starts_say_where_they_start_what_changed_and_keep_what_was_recorded(lines, tmp_path):
    run = tmp_path / "run"
    first = lines("--config.train.steps=2")
    assert first[0] == f"starting {run} at step 0 of 2: a new folder"
    assert any(line.startswith("parameters of") for line in first)
    assert (
        "model/transformer" in (run / "parameters.txt").read_text()
        or "transformer/" in (run / "parameters.txt").read_text()
    )

    again = lines("--config.train.steps=3", "--config.optimizer.learning_rate=1e-5")
    assert again[:4] == [
        f"continuing {run} at step 2 of 3",
        "settings that changed since the last start:",
        "  optimizer.learning_rate: 0.002 -> 1e-05",
        "  train.steps: 2 -> 3",
    ]
    last = json.loads((run / "runs.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["changed"]["train.steps"]) == (2, [2, 3])

    idle, *_ = lines("--config.train.steps=3", "--config.optimizer.learning_rate=1e-5")
    assert idle == f"nothing to train: {run} is at its last step, 3"

    shutil.rmtree(run / "checkpoints")  # the case history_wiped
    wiped = lines("--config.train.steps=1")
    assert wiped[0] == f"starting {run} at step 0 of 1: it holds metrics and no checkpoint"
    assert steps(run) == [1]
    kept = run / "metrics_after_0.jsonl"
    assert any(line.endswith(f"were moved from the metrics to {kept}") for line in wiped)
    assert [r["step"] for r in read_metrics(kept) if "loss" in r] == [1, 2, 3]


def test_a_full_disk_while_training_is_one_warning_and_the_steps_go_on(
    lines, tmp_path, monkeypatch
):
    from ditfuse_jax.train.writers import appended

    write, room = appended.os.write, [2000]

    def limited(descriptor, data):
        taken = bytes(data[: room[0]])
        room[0] -= len(taken)
        if not taken:
            raise OSError(28, "No space left on device")
        return write(descriptor, taken)

    monkeypatch.setattr(appended.os, "write", limited)
    said = lines("--config.train.steps=6")
    (warning,) = [line for line in said if line.startswith("writer jsonl fails")]
    assert warning.endswith("run/metrics.jsonl: cannot be written (No space left on device)")
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()
    recorded = steps(tmp_path / "run")
    assert recorded == list(range(1, len(recorded) + 1)) and 1 <= len(recorded) < 6


@pytest.mark.slow
def test_values_of_another_evaluation_are_not_mixed(lines, tmp_path):
    recipe = ("--config.evaluations.held_out.count=1", "--config.evaluations.held_out.every=1")
    lines("--config.train.steps=1", *recipe, evaluations=None)
    other = "--config.evaluations.held_out.task=m3:overlap_fraction=0.5"
    said = lines("--config.train.steps=2", *recipe, other, evaluations=None)
    kept = tmp_path / "run" / "best_until_1.json"
    line = "best.json begins anew, as the evaluation changed (evaluations.held_out.task)"
    assert f"{line}; the earlier values are in {kept}" in said
    values = {
        name: list(json.loads((tmp_path / "run" / name).read_text())["values"])
        for name in ("best.json", kept.name)
    }
    assert values == {"best.json": ["2"], kept.name: ["1"]}


def test_a_second_training_is_refused_while_the_first_runs_and_leaves_it_alone(
    lines, tiny, tmp_path
):
    refused = []

    def second(context):
        with pytest.raises(UserError, match=r"run is in use by process \d+ on .*, started "):
            train(tiny("--config.train.steps=9"), tmp_path / "run", evaluations=(), quiet=True)
        refused.append(context.step)

    lines("--config.train.steps=2", callbacks=[second])
    assert refused == [1, 2]
    assert steps(tmp_path / "run") == [1, 2]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["steps"] == 2


def test_a_training_that_lost_its_folder_ends_before_it_writes_again(lines, tmp_path, monkeypatch):
    now = run_lock._now

    def suspended(context):
        if context.step == 2:  # for an hour, and another machine took over
            later = now() + 3600
            monkeypatch.setattr(run_lock, "_now", lambda: later)
            text = (tmp_path / "run" / "lock" / "000001.json").read_text()
            other = json.loads(text) | {"host": "node7", "machine": "", "token": "other"}
            (tmp_path / "run" / "lock" / "000002.json").write_text(json.dumps(other))

    with pytest.raises(UserError, match=r"run has another owner now: process .* on node7"):
        lines("--config.train.steps=4", callbacks=[suspended])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert max(record["step"] for record in records) == 1  # those of step 2 were still pending
    assert not any("goodput/step" in record for record in records)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_run_that_fails_lets_the_next_one_start_at_once(lines, tmp_path):
    def fails(context):
        raise UserError("bad data")

    with pytest.raises(UserError, match="bad data"):
        lines("--config.train.steps=2", callbacks=[fails])
    lock = acquire(tmp_path / "run", pytest.fail)
    assert lock.number == 2
    lock.release()


@pytest.mark.parametrize(
    ("names", "metrics", "steps", "line"),
    [
        ((), False, [], "starting RUN at step 0 of 9: it holds no checkpoint"),
        ((), True, [], "starting RUN at step 0 of 9: it holds metrics and no checkpoint"),
        (
            ("4.orbax-checkpoint-tmp",),
            True,
            [],
            "starting RUN at step 0 of 9: it holds no complete checkpoint, and the unfinished "
            "checkpoint 4.orbax-checkpoint-tmp cannot be used",
        ),
        (("4",), True, [4], "continuing RUN at step 4 of 9"),
        (
            ("4", "8.orbax-checkpoint-tmp"),
            True,
            [4],
            "continuing RUN at step 4 of 9 (the unfinished checkpoint 8.orbax-checkpoint-tmp "
            "cannot be used)",
        ),
    ],
)
def test_the_reason_for_a_start_is_what_the_folder_holds(names, metrics, steps, line, tmp_path):
    found = Found(False, names, metrics)
    run = RunFolder(tmp_path)
    step = max(steps, default=0)
    assert start_line(run, step, 9, found, steps, "") == line.replace("RUN", str(tmp_path))


def test_weights_that_a_run_starts_from_are_named(tmp_path):
    line = start_line(RunFolder(tmp_path), 0, 9, Found(True, (), False), [], "/weights")
    assert line.endswith("at step 0 of 9: a new folder, from the weights in /weights")


def test_an_evaluation_that_cannot_write_its_values_goes_on(lines, tmp_path, monkeypatch):
    from ditfuse_jax.train import best

    def full(path, text):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(best, "write_text", full)
    evaluation = Evaluation(lambda context: {"x": 1.0}, every=1, directions={"x": "higher"})
    said = lines("--config.train.steps=3", "--config.train.keep_best=x", evaluations=[evaluation])
    warnings = [line for line in said if "best.json: cannot be written" in line]
    assert len(warnings) == 1 and warnings[0].endswith("; training goes on")
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir()


def test_a_store_that_checkpoints_cannot_be_written_to_is_refused_before_it_is_asked(tiny):
    with pytest.raises(UserError, match="orbax neither writes nor reads checkpoints on s3://"):
        train(tiny("--config.train.steps=1"), "s3://no-such-bucket/run", evaluations=())
