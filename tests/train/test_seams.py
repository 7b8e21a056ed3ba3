"""What a run takes from outside: writers, callbacks, evaluators, optimizers, time samplers."""

import json

import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.timeouts import TimeoutIterator
from ditfuse_jax.train import (
    Checkpoints,
    Evaluation,
    default_config,
    load_recipe,
    make_evaluations,
    resolve,
    train,
)
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.writers import MultiWriter

pytestmark = pytest.mark.medium

EXTENSION = """
import dataclasses, json
import jax, optax
from ditfuse_jax.flow.times import TIME_SAMPLERS
from ditfuse_jax.train import CALLBACKS, EVALUATORS, WRITERS
from ditfuse_jax.train.optimizer import OPTIMIZERS


@WRITERS.register("text")
class TextWriter:
    def __init__(self, run, config):
        self.file = (run.path / "metrics.txt").open("a")
        self.file.write(json.dumps(config["optimizer"]["kind"]) + "\\n")

    def write(self, step, scalars):
        self.file.write(f"{step} {sorted(scalars)}\\n")

    def close(self):
        self.file.write("closed\\n")
        self.file.close()


@CALLBACKS.register("count")
def count(recipe):
    return lambda context: {"counted": 1.0} if context.step % recipe.train.log_every else None


@EVALUATORS.register("norm")
class Norm:
    directions = {"norm": "lower"}

    def __init__(self, recipe, *, scale=1.0):
        self.scale = scale

    def __call__(self, context):
        return {"norm": self.scale * float(optax.global_norm(context.state.parameters))}


@OPTIMIZERS.register("plain_sgd")
def sgd(config, rate):
    return optax.sgd(rate)


@TIME_SAMPLERS.register("corner")
@dataclasses.dataclass(frozen=True)
class Corner:
    at: float = 0.0

    def __call__(self, key, shape):
        return jax.numpy.full(shape, self.at)
"""


@pytest.fixture
def extension(tmp_path):
    """A file of extensions; its name is unique, as a process imports one file of a name."""
    path = tmp_path / f"seams_{tmp_path.name}.py"
    code = EXTENSION
    for name in ("text", "count", "norm", "plain_sgd", "corner"):
        code = code.replace(f'register("{name}")', f'register("{name}_{tmp_path.name}")')
    path.write_text(code)
    return path, tmp_path.name


@pytest.mark.slow
def test_an_extension_s_parts_work_from_the_command_line(extension, overrides, tmp_path):
    path, suffix = extension
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from ml_collections import ConfigDict\n"
        "from ditfuse_jax.train import load_recipe\n"
        "def get_config(arg=''):\n"
        "    config = load_recipe('nano_m3')\n"
        "    with config.unlocked():\n"
        f"        config.imports = ({path.name!r},)  # beside the recipe\n"
        f"        config.evaluations.norm_{suffix} = {{'every': 2, 'scale': 2.0}}\n"
        f"        config.evaluations.other = {{'evaluator': 'norm_{suffix}', 'every': 0}}\n"
        f"        config.train.writers = ('jsonl', 'text_{suffix}')\n"
        f"        config.train.callbacks = ('count_{suffix}',)\n"
        f"        config.train.keep_best = 'norm'\n"
        f"        config.flow.time_sampler = {{'name': 'corner_{suffix}', 'at': 0.5}}\n"
        "    return config\n"
    )
    arguments = overrides(
        "--config.train.steps=5",
        "--config.train.log_every=2",
        f"--config.optimizer.kind=plain_sgd_{suffix}",
    )
    run = tmp_path / "run"
    command = ["train", "--config", str(recipe), "--workdir", str(run)]
    assert main([*command, *arguments]) == 0
    assert json.loads((run / "config.json").read_text())["imports"] == [str(path)]
    records = read_metrics(run / "metrics.jsonl")
    assert [r["step"] for r in records if "counted" in r] == [1, 3, 5]
    assert [r["step"] for r in records if "eval/norm" in r] == [2, 4, 5]
    assert [r["step"] for r in records if "eval/other/norm" in r] == [5]
    assert [r["step"] for r in records if "eval/PSNR_clean" in r] == [5]
    assert json.loads((run / "best.json").read_text())["metric"] == "eval/norm"
    text = (run / "metrics.txt").read_text()
    assert text.startswith(f'"plain_sgd_{suffix}"\n') and text.endswith("closed\n")
    assert not (run / "tensorboard").exists()


def test_the_recipe_s_evaluations_run_unless_others_are_passed(tiny, tmp_path):
    config = tiny("--config.train.steps=1", "--config.evaluations.held_out.count=1")
    train(config, tmp_path / "own", quiet=True)
    scalars = [name for r in read_metrics(tmp_path / "own" / "metrics.jsonl") for name in r]
    assert "eval/PSNR_clean" in scalars
    assert json.loads((tmp_path / "own" / "best.json").read_text())["metric"] == "eval/PSNR_clean"
    train(config, tmp_path / "none", evaluations=(), quiet=True)
    assert not (tmp_path / "none" / "best.json").exists()


def test_writers_and_callbacks_are_passed_as_objects(tiny, tmp_path):
    written, seen, closed = [], [], []

    class Writer:
        def write(self, step, scalars):
            written.append((step, *scalars))

        def close(self):
            closed.append(True)

    config = tiny("--config.train.steps=3", "--config.train.log_every=2")
    callback = lambda context: seen.append(context.step)  # noqa: E731
    train(config, tmp_path / "run", [Writer()], [callback], evaluations=(), quiet=True)
    assert seen == [1, 2, 3]
    assert [step for step, *names in written if "loss" in names] == [2, 3]
    assert closed == [True]


class Closing:
    """A writer that notes in a list that it was closed, and may fail then."""

    def __init__(self, closed, name="", fails=False):
        self.closed, self.name, self.fails = closed, name, fails

    def write(self, step, scalars):
        pass

    def close(self):
        self.closed.append(self.name)
        if self.fails:
            raise OSError("disk full")


def test_passed_writers_are_closed_when_there_is_nothing_to_train_and_in_a_refused_run(
    tiny, tmp_path
):
    config, closed = tiny("--config.train.steps=1"), []
    train(config, tmp_path, evaluations=(), quiet=True)
    train(config, tmp_path, [Closing(closed, "idle")], evaluations=(), quiet=True)
    with pytest.raises(UserError, match="is unknown"):
        refused = tiny("--config.train.writers=('csv',)")
        train(refused, tmp_path, [Closing(closed, "refused")], evaluations=(), quiet=True)
    assert closed == ["idle", "refused"]


def test_a_writer_that_cannot_be_opened_leaves_nothing_open(tiny, tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError("no connection")

    opened, closed = [], []
    close, batches = Checkpoints.close, TimeoutIterator.__init__

    def open_batches(self, *arguments):
        opened.append("batches")
        batches(self, *arguments)

    monkeypatch.setattr("ditfuse_jax.train.loop.make_writers", broken)
    monkeypatch.setattr(TimeoutIterator, "__init__", open_batches)
    monkeypatch.setattr(TimeoutIterator, "close", lambda self: closed.append("batches"))
    monkeypatch.setattr(Checkpoints, "close", lambda self: (close(self), closed.append("steps")))
    with pytest.raises(OSError, match="no connection"):
        train(tiny(), tmp_path, [Closing(closed, "passed")], evaluations=(), quiet=True)
    assert closed == [*opened, "steps", "passed"]


def test_one_writer_s_failure_leaves_no_other_writer_open():
    closed = []
    MultiWriter([Closing(closed, name, fails=name == "b") for name in "abc"]).close()
    assert closed == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.writers=('csv',)", "writer 'csv' is unknown; choose from jsonl, tensorboard"),
        ("train.callbacks=('bell',)", "callback 'bell' is unknown"),
        ("train.keep_best=beauty", "'beauty' is not a scalar of the evaluations"),
    ],
)
def test_unknown_names_are_refused_before_a_folder_is_made(tiny, tmp_path, override, message):
    evaluations = [Evaluation(lambda context: {"x": 1.0}, directions={"x": "higher"})]
    config = tiny("--config.train.keep_best=x", f"--config.{override}")
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run", evaluations=evaluations, quiet=True)
    assert not (tmp_path / "run").exists()


def evaluations(**settings):
    config = default_config("nano")
    config.evaluations = settings
    return resolve(config)


def test_unknown_evaluators_and_settings_are_refused_by_their_key():
    with pytest.raises(UserError, match=r"evaluations\.night: evaluator 'night' is unknown"):
        make_evaluations(evaluations(night={"every": 1}))
    with pytest.raises(UserError, match=r"evaluations\.held_out: .*unexpected .*'size'"):
        make_evaluations(evaluations(held_out={"size": 3}))
    with pytest.raises(UserError, match=r"evaluations\.held_out: count must be at least 1, not 0"):
        make_evaluations(evaluations(held_out={"count": 0}))
    with pytest.raises(UserError, match=r"evaluations\.x\.every must be at least 0, not -1"):
        evaluations(x={"every": -1})
    with pytest.raises(UserError, match=r"evaluations\.x\.task: training task 'no' is unknown"):
        evaluations(x={"evaluator": "held_out", "task": "no"})


def test_several_evaluations_of_one_evaluator_have_their_own_names():
    made = make_evaluations(
        evaluations(
            held_out={"every": 5, "count": 1},
            blur={"evaluator": "held_out", "count": 1, "task": {"name": "mff"}},
        )
    )
    assert {(e.prefix, e.every, e.folder) for e in made} == {
        ("eval", 5, ""),
        ("eval/blur", 0, "blur"),
    }


def test_a_task_and_a_time_sampler_may_be_changed_setting_by_setting():
    config = load_recipe(
        "nano_m3",
        [
            "--config.data.mixture.photos.task.overlap_fraction=0.5",
            "--config.flow.time_sampler.mean=-0.8",
        ],
    )
    assert config.data.mixture.photos.task.to_dict() == {"name": "m3", "overlap_fraction": 0.5}
    assert resolve(config).step.time_sampler.mean == -0.8
    config = load_recipe("nano_m3", ["--config.flow.time_sampler=uniform"])
    assert config.flow.time_sampler == "uniform"
    resolve(config)
    for bad in ("flow.time_sampler={'mean': 1}", "data.mixture.other.task=m3"):
        with pytest.raises(UserError, match="cannot apply"):
            load_recipe("nano_m3", [f"--config.{bad}"])
