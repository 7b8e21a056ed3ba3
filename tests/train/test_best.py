"""The best checkpoint: chosen by a scalar, kept beside the newest, known after a restart."""

import json
import math
import shutil

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train import Checkpoints, Criterion, Evaluation, find_checkpoint, train
from ditfuse_jax.train.best import FILE, BestTracker
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.weights.best_step import read_best
from ditfuse_jax.weights.run_paths import is_run, resolve_best

pytestmark = pytest.mark.medium

HIGHER = Criterion("eval/x", "higher")


@pytest.fixture
def run(tiny, tmp_path):
    """Trains with evaluations that return the given values; returns the steps that are kept."""

    def begin(values, steps, criterion=HIGHER, every=1, keep=1):
        config = tiny(
            f"--config.train.steps={steps}",
            f"--config.train.checkpoint_every={every}",
            f"--config.train.keep_checkpoints={keep}",
            f"--config.train.keep_best={criterion.name.removeprefix('eval/') if criterion else ''}",
        )

        def evaluation(context):
            return {"x": values[context.step]}

        directions = {"x": criterion.direction if criterion else "higher"}
        evaluations = [Evaluation(evaluation, every=1, directions=directions)]
        train(config, tmp_path / "run", evaluations=evaluations, quiet=True)
        return saved(tmp_path / "run")

    return begin


def saved(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


@pytest.mark.slow
def test_the_best_is_kept_beside_the_newest_and_known_after_a_restart(run, tmp_path):
    values = {1: 1.0, 2: 5.0, 3: math.nan, 4: 3.0, 5: 4.0, 6: 2.0, 7: 6.0, 8: 1.0}
    assert run(values, 4) == [2, 4]
    assert run(values, 6) == [2, 6]
    assert find_checkpoint(tmp_path / "run@best") == (tmp_path / "run", 2)
    assert find_checkpoint(tmp_path / "run") == (tmp_path / "run", 6)
    assert resolve_best(tmp_path / "run@best") == tmp_path / "run" / "checkpoints" / "2"
    assert run(values, 8) == [7, 8]
    assert find_checkpoint(tmp_path / "run@best")[1] == 7


def test_a_best_step_that_no_schedule_saves_is_saved(run):
    assert run({1: 3.0, 2: 1.0, 3: 2.0}, 3, Criterion("eval/x", "lower"), every=0) == [2, 3]


def test_without_a_criterion_only_the_newest_are_kept(run, tmp_path):
    assert run({1: 3.0, 2: 1.0, 3: 2.0}, 3, None, keep=2) == [2, 3]
    with pytest.raises(UserError, match=r"has no best checkpoint.*without @best"):
        find_checkpoint(tmp_path / "run@best")


def test_a_lost_checkpoint_leaves_the_next_best(run, tmp_path):
    assert run({1: 5.0, 2: 3.0, 3: 4.0, 4: 1.0}, 4, keep=4) == [1, 2, 3, 4]
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "1")
    assert find_checkpoint(tmp_path / "run@best")[1] == 3


def test_a_scalar_that_no_evaluation_has_is_refused_before_training(run, tmp_path):
    with pytest.raises(UserError, match=r"train\.keep_best 'y' is not .*choose from x, or"):
        run({1: 1.0}, 1, Criterion("eval/y", "higher"))
    assert not (tmp_path / "run").exists()


def test_an_evaluator_that_returns_less_than_it_announces_is_an_error(tiny, tmp_path):
    evaluation = Evaluation(lambda context: {"y": 1.0}, directions={"x": "higher"})
    config = tiny("--config.train.steps=1", "--config.train.keep_best=x")
    with pytest.raises(UserError, match="announces the scalar 'x' but returned only y"):
        train(config, tmp_path / "run", evaluations=[evaluation], quiet=True)


def test_evaluations_of_other_intervals_do_not_disturb_the_best(tiny, tmp_path):
    values = {2: 1.0, 4: 3.0, 5: 2.0}
    evaluations = [
        Evaluation(lambda c: {"x": values[c.step]}, every=2, directions={"x": "higher"}),
        Evaluation(lambda c: {"y": float(c.step)}, every=1, prefix="eval/often"),
    ]
    config = tiny(
        "--config.train.steps=5",
        "--config.train.keep_best=x",
        "--config.train.keep_checkpoints=1",
    )
    train(config, tmp_path / "run", evaluations=evaluations, quiet=True)
    assert saved(tmp_path / "run") == [4, 5]
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [r["eval/often/y"] for r in records if "eval/often/y" in r] == [1, 2, 3, 4, 5]
    assert [r["step"] for r in records if "eval/x" in r] == [2, 4, 5]


@pytest.mark.parametrize(("direction", "winner"), [("higher", 1), ("lower", 2), ("zero", 3)])
def test_the_direction_decides_and_neither_nan_nor_a_later_equal_wins(tmp_path, direction, winner):
    best = BestTracker(tmp_path, Criterion("x", direction))
    values = {0: math.nan, 1: math.inf, 2: -9.0, 3: 0.5, 4: -0.5, 5: math.inf, 6: -9.0}
    improved = [s for s, value in values.items() if best.record(s, {"x": value}, range(s))]
    best.write()
    assert best.step(values) == winner
    assert 0 not in improved
    assert improved[-1] == winner
    again = BestTracker(tmp_path, Criterion("x", direction))
    assert again.step(values) == winner
    json.loads((tmp_path / FILE).read_text(), parse_constant=pytest.fail)


def test_a_run_that_goes_back_forgets_later_values(tmp_path):
    best = BestTracker(tmp_path, HIGHER)
    for step, value in ((1, 1.0), (2, 2.0)):
        best.record(step, {"eval/x": value}, [1, 2])
    best.forget_after(1)
    assert best.step([1, 2]) == 1


def write_best(folder, criterion=HIGHER, evaluation=None, **values):
    best = BestTracker(folder, criterion, evaluation)
    for step, value in values.items():
        best.record(int(step.removeprefix("step")), {criterion.name: value}, [])
    best.write()


def test_values_by_another_criterion_do_not_count_and_are_kept_in_another_file(tmp_path):
    write_best(tmp_path, step1=9.0)
    best = BestTracker(tmp_path, Criterion("eval/x", "lower"))
    assert best.step([1]) is None
    line = best.set_aside(1)
    assert line.startswith("best.json begins anew, as eval/x (lower is better) decides instead of")
    assert not (tmp_path / FILE).exists()
    assert read_best(tmp_path / "best_until_1.json").values == {1: 9.0}
    write_best(tmp_path, step2=1.0)
    assert BestTracker(tmp_path, HIGHER).set_aside(2) == ""


def test_values_of_another_evaluation_do_not_count(tmp_path):
    write_best(tmp_path, evaluation={"task": "m3", "count": 2}, step1=9.0)
    same = BestTracker(tmp_path, HIGHER, {"count": 2, "task": "m3"})
    assert (same.values, same.set_aside(1)) == ({1: 9.0}, "")
    other = BestTracker(tmp_path, HIGHER, {"task": "mff", "count": 2})
    assert other.values == {}
    assert "begins anew, as the evaluation changed (task)" in other.set_aside(1)


def test_a_file_that_does_not_hold_its_evaluation_has_that_of_the_run_s_config(tmp_path):
    write_best(tmp_path, step1=9.0)
    assert BestTracker(tmp_path, HIGHER, {"count": 2}, {"count": 2}).values == {1: 9.0}
    assert BestTracker(tmp_path, HIGHER, {"count": 2}, {"count": 3}).values == {}


def test_a_run_that_starts_over_begins_its_values_anew_and_keeps_the_old(tmp_path):
    write_best(tmp_path, step5=9.0)
    best = BestTracker(tmp_path, HIGHER)
    best.forget_after(0)
    assert "as the run starts at step 0" in best.set_aside(0)
    assert read_best(tmp_path / "best_until_0.json").values == {5: 9.0}


@pytest.mark.parametrize("text", ["{", "[]", '{"metric": "x", "direction": "higher"}'])
def test_a_damaged_record_is_reported_in_one_line(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=r"best\.json cannot be read .*: remove it") as caught:
        BestTracker(tmp_path, HIGHER)
    assert "\n" not in str(caught.value)


def test_a_folder_may_have_a_name_that_ends_in_best(tiny, tmp_path):
    folder = tmp_path / "run@best"
    train(tiny("--config.train.steps=1"), folder, evaluations=(), quiet=True)
    assert is_run(folder)
    assert find_checkpoint(folder) == (folder, 1)


def test_a_best_step_survives_when_many_are_older_and_newer(tiny, tmp_path):
    folder = tmp_path / "run"
    train(tiny("--config.train.steps=1"), folder, evaluations=(), quiet=True)
    best = BestTracker(folder, HIGHER)
    checkpoints = Checkpoints(folder, keep=2, best=best)
    for step in range(2, 7):
        checkpoints.save_config(step, {})
        best.record(step, {"eval/x": 9.0 if step == 3 else float(step)}, checkpoints.steps)
    checkpoints.close()
    assert saved(folder) == [3, 5, 6]
