"""Settings that are chosen for the devices: what a run uses, records and says."""

import json

import jax
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.train import compile as compile_module
from ditfuse_jax.train import for_devices, resolve, train

pytestmark = pytest.mark.medium
GIB = 2**30


@pytest.fixture
def limit(monkeypatch):
    """Sets the memory that the devices report."""
    return lambda size: monkeypatch.setattr(for_devices, "memory_limit", lambda devices: size)


@pytest.fixture
def compiled(monkeypatch):
    """The compiled steps, in order."""
    steps = []
    compile_step = compile_module.compile_step

    def spy(*arguments):
        steps.append(compile_step(*arguments))
        return steps[-1]

    monkeypatch.setattr(compile_module, "compile_step", spy)
    monkeypatch.setattr(for_devices, "compile_step", spy)
    return steps


def recorded(run):
    model = json.loads((run / "config.json").read_text())["model"]
    return model["attention"], model["remat"]


@pytest.mark.slow
def test_a_run_records_what_was_chosen_and_may_continue_on_other_devices(
    tiny, tmp_path, capsys, limit
):
    run = tmp_path / "run"
    train(tiny("--config.train.steps=1"), run, evaluations=())
    assert recorded(run) == ("xla", "none")
    lines = capsys.readouterr().err
    assert "model.attention=auto: xla (cpu)" in lines
    assert "model.remat=auto: none (" in lines
    # As if it had been trained on a TPU.
    config = tiny("--config.train.steps=2", "--config.model.attention=splash")
    train(config, run, evaluations=(), quiet=True)
    assert recorded(run)[0] == "splash"
    assert load_trained(run).model.attention == "auto"
    limit(GIB)
    train(tiny("--config.train.steps=3"), run, evaluations=())
    assert recorded(run) == ("xla", "none")
    assert "of 1.00 GiB" in capsys.readouterr().err


def test_the_step_that_was_compiled_to_choose_is_the_one_that_trains(
    tiny, tmp_path, limit, compiled
):
    limit(GIB)
    train(tiny("--config.train.steps=2"), tmp_path / "run", evaluations=(), quiet=True)
    assert len(compiled) == 1


def test_what_is_named_in_the_recipe_is_kept_and_says_nothing(tiny, tmp_path, capsys, limit):
    limit(1)
    named = ("--config.model.attention=reference", "--config.model.remat=full")
    train(tiny("--config.train.steps=1", *named), tmp_path / "run", evaluations=())
    assert recorded(tmp_path / "run") == ("reference", "full")
    assert "auto" not in capsys.readouterr().err


def test_a_step_that_fits_with_no_policy_ends_before_the_run_begins(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(for_devices, "memory_limit", lambda devices: 1000)

    def compile_step(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(for_devices, "compile_step", compile_step)
    with pytest.raises(UserError, match="does not fit a device with"):
        train(tiny("--config.train.steps=1"), tmp_path / "run", evaluations=(), quiet=True)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("buckets", [(), ((32, 32), (32, 64))])
def test_the_abstract_batch_has_the_shapes_of_the_largest_real_one(tiny, buckets):
    data = resolve(tiny(f"--config.data.buckets={buckets}")).data
    partitioner = Partitioner(make_mesh(MeshConfig(), jax.devices()[:1]))
    abstract = for_devices.largest_batch(data, partitioner)
    batches = data.batches()
    real = [next(batches) for _ in range(4 if buckets else 1)]
    largest = max(real, key=lambda batch: np.size(batch["target"]))
    assert {k: (x.shape, x.dtype) for k, x in abstract.items()} == {
        k: (x.shape, x.dtype) for k, x in largest.items()
    }
