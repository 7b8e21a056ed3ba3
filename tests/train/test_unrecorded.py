"""An evaluation that was interrupted is done by the next start, as if nothing had happened."""

import json
import signal

import optax
import pytest

from ditfuse_jax.train import Checkpoints, Criterion, Evaluation, train
from ditfuse_jax.train.best import BestTracker
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.unrecorded import unrecorded

HIGHER = {"x": "higher"}
SETTINGS = (
    "--config.train.steps=4",
    "--config.train.checkpoint_every=2",
    "--config.train.keep_checkpoints=1",
    "--config.train.keep_best=x",
)


class Interrupted(Exception):
    pass


def norm(context):
    """A scalar that depends on the state."""
    return {"x": -float(optax.global_norm(context.state.ema))}


def evaluations(interrupted=()):
    """Two evaluations; the second fails the first time after each of the given steps."""
    waiting, calls = list(interrupted), []

    def evaluate(context):
        if context.step in waiting:
            waiting.remove(context.step)
            raise Interrupted
        calls.append(context.step)
        return norm(context)

    counted = Evaluation(lambda context: {"y": context.step}, every=1, prefix="eval/often")
    return [counted, Evaluation(evaluate, every=2, directions=HIGHER)], calls


def recorded(folder):
    """The metrics of steps and evaluations, without what was measured."""
    known = ("step", "loss", "grad_norm", "learning_rate", "eval/x", "eval/often/y")
    records = [
        {name: value for name, value in record.items() if name in known}
        for record in read_metrics(folder / "metrics.jsonl")
    ]
    return [record for record in records if len(record) > 1]


@pytest.mark.medium
def test_interrupted_evaluations_leave_the_run_that_was_never_interrupted(tiny, tmp_path):
    config = tiny(*SETTINGS)
    train(config, tmp_path / "whole", evaluations=evaluations()[0], quiet=True)
    run = tmp_path / "run"
    interrupted, calls = evaluations([2, 4])
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(config, run, evaluations=interrupted, quiet=True)
    assert calls == [2]
    assert train(config, run, evaluations=interrupted, quiet=True).step == 4
    assert recorded(run) == recorded(tmp_path / "whole")
    assert (run / "best.json").read_text() == (tmp_path / "whole" / "best.json").read_text()
    for folder in (run, tmp_path / "whole"):
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.steps == [2, 4]
    # Now there is nothing left to do.
    before = (run / "metrics.jsonl").read_text()
    train(config, run, evaluations=interrupted, quiet=True)
    assert calls == [2, 4]
    assert (run / "metrics.jsonl").read_text() == before


KILLED_WHILE_EVALUATING = """
import os, signal, sys
from ditfuse_jax.train import Evaluation, load_recipe, train

def evaluate(context):
    while not (context.run.path / "checkpoints" / "1").is_dir():  # it is saved in the background
        pass
    os.kill(os.getpid(), signal.SIGKILL)

evaluation = Evaluation(evaluate, directions={"x": "higher"})
train(load_recipe("nano_m3", sys.argv[2:]), sys.argv[1], evaluations=[evaluation], quiet=True)
"""


@pytest.mark.processes
@pytest.mark.slow
def test_a_kill_during_the_last_evaluation_costs_this_evaluation_only(
    tiny, overrides, run_code, tmp_path, capsys
):
    run, settings = tmp_path / "run", ("--config.train.steps=1", "--config.train.keep_best=x")
    killed = run_code(KILLED_WHILE_EVALUATING, str(run), *overrides(*settings))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    (record,) = recorded(run)
    assert "loss" in record and "eval/x" not in record
    evaluation = Evaluation(norm, directions=HIGHER)
    train(tiny(*settings), run, evaluations=[evaluation])
    said = capsys.readouterr().err
    assert f"nothing to train: {run} is at its last step, 1" in said
    assert "step 1 was saved and its evaluation not recorded: evaluating it" in said
    assert [record["step"] for record in recorded(run) if "eval/x" in record] == [1]
    assert list(json.loads((run / "best.json").read_text())["values"]) == ["1"]


class TestUnrecorded:
    """Which evaluations a start has to do."""

    @pytest.fixture
    def find(self, tmp_path):
        def found(step=4, last=False, best=None, writers=("jsonl",)):
            run = RunFolder(tmp_path)
            return [e.prefix for e in unrecorded(made, step, last, run, best, writers)]

        made = [
            Evaluation(norm, every=2, directions=HIGHER),
            Evaluation(norm, every=0, prefix="eval/streets"),
            Evaluation(norm, every=4, prefix="eval/fog"),
        ]
        return found

    def write(self, folder, *records):
        lines = [json.dumps(record) + "\n" for record in records]
        (folder / "metrics.jsonl").write_text("".join(lines))

    def test_those_that_are_due_at_the_step(self, find):
        assert find(2) == ["eval"]
        assert find(3) == []
        assert find(4) == ["eval", "eval/fog"]
        assert find(4, last=True) == ["eval", "eval/streets", "eval/fog"]

    def test_none_at_step_0(self, find):
        assert find(0) == []

    def test_not_those_whose_scalars_are_recorded_for_this_step(self, find, tmp_path):
        self.write(tmp_path, {"step": 2, "eval/x": 1.0}, {"step": 4, "eval/fog/PSNR": 1.0})
        assert find(4) == ["eval"]
        self.write(tmp_path, {"step": 4, "eval/x": 1.0}, {"step": 4, "loss": 1.0})
        assert find(4) == ["eval/fog"]

    def test_without_metrics_those_that_have_no_value_for_the_best(self, find, tmp_path):
        best = BestTracker(tmp_path, Criterion("eval/x", "higher"))
        assert find(2, best=best, writers=()) == ["eval"]
        best.record(2, {"eval/x": 1.0}, [])
        assert find(2, best=best, writers=()) == []
