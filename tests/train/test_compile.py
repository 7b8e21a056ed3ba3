"""Steps that a process has compiled are used again by its next training of the same recipe."""

import pytest

from ditfuse_jax.flow.times import TIME_SAMPLERS
from ditfuse_jax.train import compile as compile_module
from ditfuse_jax.train import train
from ditfuse_jax.train.metrics_files import read_metrics

pytestmark = pytest.mark.medium


@pytest.fixture
def count(monkeypatch):
    """Counts the steps that are lowered, from an empty cache on."""
    lowered = []
    lower_step = compile_module.lower_step

    def spy(*arguments):
        lowered.append(arguments)
        return lower_step(*arguments)

    monkeypatch.setattr(compile_module, "lower_step", spy)
    monkeypatch.setattr(compile_module, "_recent", {})
    return lambda: len(lowered)


@pytest.fixture
def run(tiny, tmp_path):
    def begin(name, *overrides):
        config = tiny("--config.train.steps=2", "--config.train.log_every=1", *overrides)
        train(config, tmp_path / name, evaluations=(), quiet=True)
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        return [(row["loss"], row["grad_norm"]) for row in rows if "loss" in row]

    return begin


def test_a_second_training_does_not_compile_and_has_the_same_numbers(run, count, tmp_path):
    first = run("first")
    assert count() == 1
    assert run("second") == first
    assert count() == 1
    tables = [
        next((tmp_path / name / "compiled").glob("*/memory.txt")).read_text()
        for name in ("first", "second")
    ]
    assert tables[0] == tables[1]


class Lowered(Exception):
    """A step would be compiled."""


@pytest.fixture
def compiled(run, monkeypatch):
    """A process that has compiled the step of the plain recipe, and may not compile another."""

    def lower_step(*_):
        raise Lowered

    run("first")
    monkeypatch.setattr(compile_module, "lower_step", lower_step)


@pytest.mark.parametrize(
    "override",
    [
        "--config.optimizer.learning_rate=0.0123",
        "--config.flow.gradient_loss_weight=0.5",
        "--config.data.batch_size=4",
    ],
)
def test_another_setting_of_the_step_is_compiled(run, compiled, override):
    del compiled
    with pytest.raises(Lowered):
        run("other", override)


def test_the_step_is_compiled_again_after_an_entry_was_registered(run, compiled, monkeypatch):
    del compiled
    monkeypatch.setattr(TIME_SAMPLERS, "_entries", dict(TIME_SAMPLERS))
    TIME_SAMPLERS.register("of_a_test", TIME_SAMPLERS["logit_normal"])
    with pytest.raises(Lowered):
        run("second")


def test_its_hlo_can_be_written_after_it_was_compiled(run, count, tmp_path):
    run("first")
    run("second", "--config.train.dump_hlo=True")
    assert count() == 2
    assert list((tmp_path / "second" / "compiled").glob("*/before_optimization.hlo.txt"))


def test_only_the_last_steps_are_kept(run, count, monkeypatch):
    monkeypatch.setattr(compile_module, "NUM_RECENT", 0)
    run("first")
    run("second")
    assert count() == 2
    assert not compile_module._recent
