"""Sweeps on this machine: continuing, skipping, failing, stopping."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ditfuse_jax.sweep import Sweep, sweep
from ditfuse_jax.sweep.local import last_line, run_plan
from ditfuse_jax.sweep.report import write_report
from ditfuse_jax.sweep.table import make_table

pytestmark = pytest.mark.processes

FAILS, WAITS, SKIPS_EVALUATION = (
    f"--config.optimizer.warmup_steps={kind}" for kind in (13, 14, 15)
)


def names(calls) -> list[str]:
    folders = [arguments[arguments.index("--workdir") + 1] for _, arguments, *_ in calls]
    return [folder.rpartition("/")[2] for folder in folders]


def test_trials_run_once_and_are_then_skipped(fake, plan):
    made = plan()
    outcome = run_plan(made, 2, quiet=True)
    assert not outcome.failures and not outcome.stopped
    assert sorted(names(fake.calls())) == ["fast-seed0", "fast-seed1", "slow-seed0", "slow-seed1"]
    assert [trial.scores() for trial in made.trials] == [
        {"quality": v} for v in (1.0, 2.0, 3.0, 4.0)
    ]
    fake.forget()
    run_plan(plan(), 2, quiet=True)
    assert not fake.calls()


def test_an_extended_sweep_trains_only_the_new_trials(fake, plan):
    run_plan(plan(), 2, quiet=True)
    fake.forget()
    run_plan(plan(seeds=(0, 1, 2)), 1, quiet=True)
    assert names(fake.calls()) == ["slow-seed2", "fast-seed2"]


def test_a_failure_is_reported_with_its_last_line_and_the_others_continue(fake, plan, capsys):
    rate = "--config.optimizer.learning_rate=0.002"
    made = plan({"bad": (FAILS,), "good": (rate,)}, seeds=(0,))
    outcome = run_plan(made, 1)
    (failure,) = outcome.failures
    assert str(failure) == f"bad, seed 0: ValueError: unlucky (see {failure.log})"
    assert "step 2" in failure.log.read_text()
    assert made.trials[1].scores() == {"quality": 2.0}
    assert "failed: bad, seed 0: ValueError: unlucky" in capsys.readouterr().err
    fake.forget()
    assert len(run_plan(made, 1, quiet=True).failures) == 1  # tried again
    assert names(fake.calls()) == ["bad-seed0"]


def test_a_training_without_its_last_evaluation_has_failed(fake, plan):
    (failure,) = run_plan(plan({"a": (SKIPS_EVALUATION,)}, seeds=(0,)), 1, quiet=True).failures
    assert "without evaluating its last step" in failure.reason


def test_trials_that_share_a_training_are_scored_after_it_and_fail_with_it(fake, plan):
    sampled = {f"{n} steps": (f"--config.sample.steps={n}",) for n in (2, 8, 13)}
    made = plan(sampled, seeds=(1,), evaluate=("--data", "x"))
    outcome = run_plan(made, 3, quiet=True)
    assert [command for command, *_ in fake.calls()] == ["train", *["evaluate"] * 3]
    assert [trial.scores() for trial in made.trials] == [{"quality": 2.0}, {"quality": 8.0}, None]
    assert [failure.name for failure in outcome.failures] == ["13 steps, seed 1"]
    fake.forget()
    run_plan(made, 1, quiet=True)
    assert [command for command, *_ in fake.calls()] == ["evaluate"]  # the one that failed

    broken = plan({name: (*overrides, FAILS) for name, overrides in sampled.items()},
                  seeds=(2,), evaluate=("--data", "x"))  # fmt: skip
    assert len(run_plan(broken, 1, quiet=True).failures) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_on_a_signal_trainings_save_and_the_same_call_continues(fake, plan, number):
    made = plan({"long": (WAITS,), "later": ()}, seeds=(0,))
    waiting = made.trainings[0].folder / "waiting"

    def stop_when_it_runs() -> None:
        while not waiting.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=stop_when_it_runs).start()
    outcome = run_plan(made, 1, quiet=True)
    assert outcome.stopped and not outcome.failures
    assert (made.trainings[0].folder / "saved").exists()
    assert names(fake.calls()) == ["long-seed0"]  # nothing else was started
    assert signal.getsignal(number) is before

    outcome = run_plan(made, 1, quiet=True)
    assert not outcome.stopped and all(trial.scores() for trial in made.trials)


def test_the_sweep_itself_opens_no_devices(tmp_path):
    code = (
        "import sys\n"
        "from ditfuse_jax import compat\n"
        "from ditfuse_jax.sweep import sweep\n"
        "sweep('noise_draws', sys.argv[1], workers=0, quiet=True)\n"
        "assert not compat.backends_are_initialized()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "sweep.html").exists()


def test_devices_are_divided_among_workers(fake, plan, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    run_plan(plan(), 2, quiet=True)
    assert {devices for *_, devices in fake.calls()} == {"4,5", "6,7"}


def test_the_last_line_of_a_log_is_the_one_a_terminal_shows_last(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == "no output"
    log.write_bytes(b"one\n10%\r20%\xff\r\n\n  \n")
    assert last_line(log).startswith("20%")


# Like the fake command, for a folder in a bucket.
REMOTE = """
import json, sys
from ditfuse_jax.files import write_text
from ditfuse_jax.paths import as_path
arguments = sys.argv[2:]
values = dict(item.removeprefix("--").split("=", 1) for item in arguments if "=" in item)
folder = as_path(arguments[arguments.index("--workdir") + 1])
print("training", folder)
if values["config.seed"] == "1":
    sys.exit("ValueError: unlucky")
steps = values["config.train.steps"]
record = {"step": int(steps), "eval/quality": 7.0, "eval/quality_of_mean": 1.0}
write_text(folder / "metrics" / "000001-000000.jsonl", json.dumps(record) + "\\n")
write_text(folder / "checkpoints" / steps / "commit_success.txt", "")
"""


@pytest.mark.medium
@pytest.mark.slow
def test_a_sweep_in_a_bucket_reads_scores_and_keeps_the_logs_there(
    gcs, plan, tmp_path, monkeypatch
):
    program = tmp_path / "remote.py"
    program.write_text(REMOTE)
    monkeypatch.setattr("ditfuse_jax.sweep.local.DITFUSE", (sys.executable, str(program)))
    made = plan(seeds=(0, 1), folder=f"{gcs.bucket()}/sweep")
    outcome = run_plan(made, 2, quiet=True)
    assert sorted(f.reason for f in outcome.failures) == ["ValueError: unlucky"] * 2
    assert [trial.scores() for trial in made.trials] == [{"quality": 7.0}, None] * 2
    logs = [f.log.read_text() for f in outcome.failures]
    assert all("training gs://" in text for text in logs)
    run_plan(made, 2, quiet=True)  # the failed ones again: their logs are continued
    assert [f.log.read_text().count("unlucky") for f in outcome.failures] == [2, 2]
    page = write_report(made, make_table(made), outcome.failures)
    assert str(page).startswith("gs://") and page.is_file()


def test_a_model_that_was_trained_further_is_scored_again_and_this_is_said(fake, tmp_path, capsys):
    settings = {f"{n} steps": (f"--config.sample.steps={n}",) for n in (1, 2)}
    run, folder = tmp_path / "mine", tmp_path / "sweep"
    of_run = Sweep(settings, checkpoint=str(run), evaluate=("--data", "x"), seeds=(0,))

    def train(step: str) -> None:
        (run / "checkpoints" / step).mkdir(parents=True)
        (run / "checkpoints" / step / "d").write_text("x")

    for step, said in (("3", ""), ("4", "mine has changed since it was scored"), ("", "")):
        if step:
            train(step)
        sweep(of_run, folder)
        error = capsys.readouterr().err
        assert said in error and ("2 of 2 scores are computed again" in error) == bool(said)
    assert len(fake.calls()) == 4
    train("5")
    sweep(of_run, folder, workers=0)
    output = capsys.readouterr()
    assert "left out: run without -n 0" in output.err and "0 of 1" in output.out
