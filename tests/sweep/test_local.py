"""Running a sweep here: continued, skipped, isolated, stopped."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ditfuse_jax.sweep.local import last_line, run_plan

FAILS, WAITS, FORGETS = (f"--config.optimizer.warmup_steps={kind}" for kind in (13, 14, 15))


def names(calls) -> list[str]:
    return [words[words.index("--workdir") + 1].rpartition("/")[2] for _, words, *_ in calls]


def test_all_is_done_once_and_then_skipped(fake, plan):
    made = plan()
    outcome = run_plan(made, 2, quiet=True)
    assert not outcome.failures and not outcome.stopped
    assert sorted(names(fake.calls())) == ["fast-seed0", "fast-seed1", "slow-seed0", "slow-seed1"]
    assert [run.scores() for run in made.runs] == [{"quality": v} for v in (1.0, 2.0, 3.0, 4.0)]
    fake.forget()
    run_plan(plan(), 2, quiet=True)
    assert not fake.calls()


def test_a_sweep_that_grew_trains_only_what_is_new(fake, plan):
    run_plan(plan(), 2, quiet=True)
    fake.forget()
    run_plan(plan(seeds=(0, 1, 2)), 1, quiet=True)
    assert names(fake.calls()) == ["slow-seed2", "fast-seed2"]


def test_a_failing_run_is_told_by_its_last_line_and_the_others_go_on(fake, plan, capsys):
    rate = "--config.optimizer.learning_rate=0.002"
    made = plan({"bad": (FAILS,), "good": (rate,)}, seeds=(0,))
    outcome = run_plan(made, 1)
    (failure,) = outcome.failures
    assert str(failure) == f"bad, seed 0: ValueError: unlucky (see {failure.log})"
    assert "step 2" in failure.log.read_text()
    assert made.runs[1].scores() == {"quality": 2.0}
    assert "failed: bad, seed 0: ValueError: unlucky" in capsys.readouterr().err
    fake.forget()
    assert len(run_plan(made, 1, quiet=True).failures) == 1  # tried again
    assert names(fake.calls()) == ["bad-seed0"]


def test_a_training_without_its_last_evaluation_is_no_success(fake, plan):
    (failure,) = run_plan(plan({"a": (FORGETS,)}, seeds=(0,)), 1, quiet=True).failures
    assert "without the evaluation of its last step" in failure.reason


def test_what_shares_a_training_is_scored_after_it_and_fails_with_it(fake, plan):
    sampled = {f"{n} steps": (f"--config.sample.steps={n}",) for n in (2, 8, 13)}
    made = plan(sampled, seeds=(1,), evaluate=("--data", "x"))
    outcome = run_plan(made, 3, quiet=True)
    assert [command for command, *_ in fake.calls()] == ["train", *["evaluate"] * 3]
    assert [run.scores() for run in made.runs] == [{"quality": 2.0}, {"quality": 8.0}, None]
    assert [failure.name for failure in outcome.failures] == ["13 steps, seed 1"]
    fake.forget()
    run_plan(made, 1, quiet=True)
    assert [command for command, *_ in fake.calls()] == ["evaluate"]  # the one that failed

    broken = plan({name: (*words, FAILS) for name, words in sampled.items()},
                  seeds=(2,), evaluate=("--data", "x"))  # fmt: skip
    assert len(run_plan(broken, 1, quiet=True).failures) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_lets_trainings_save_and_the_same_call_continues(fake, plan, number):
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
    assert names(fake.calls()) == ["long-seed0"]  # nothing new was begun
    assert signal.getsignal(number) is before

    outcome = run_plan(made, 1, quiet=True)
    assert not outcome.stopped and all(run.scores() for run in made.runs)


def test_the_sweep_itself_takes_no_accelerator_from_its_trainings(tmp_path):
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


def test_workers_share_the_devices_out(fake, plan, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    run_plan(plan(), 2, quiet=True)
    assert {devices for *_, devices in fake.calls()} == {"4,5", "6,7"}


def test_the_last_line_of_a_log_is_what_a_terminal_would_show_last(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == "it said nothing"
    log.write_bytes(b"one\n10%\r20%\xff\r\n\n  \n")
    assert last_line(log).startswith("20%")
