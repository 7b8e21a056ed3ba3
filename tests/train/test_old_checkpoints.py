"""Checkpoints that earlier versions wrote continue: renamed keys and arrays, former items."""

import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.train import Checkpoints, load_recipe, resolve, train
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.state import abstract_state
from ditfuse_jax.weights.run_reader import RunReader

pytestmark = pytest.mark.medium


def abstract(config):
    recipe = resolve(config)
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    partitioner = Partitioner(make_mesh(MeshConfig(), jax.devices()[:1]))
    return abstract_state(recipe.network, optimizer, recipe.step.ema_decay > 0, partitioner)


def with_old_keys(config):
    """The config of a run as it was stored in November 2026."""
    old = config.to_dict()
    held_out = old.pop("evaluations")["held_out"]
    old["train"]["evaluate_every"] = held_out.pop("every")
    old["evaluation"] = held_out
    old["flow"]["time_sampler"] = "logit_normal"
    old["flow"]["detail"] = old["flow"].pop("gradient_loss_weight")
    old["model"]["target_sees_sources"] = old["model"].pop("source_skip")
    del old["imports"], old["train"]["writers"], old["train"]["callbacks"]
    return old


@pytest.fixture(scope="module")
def old_run(tiny, tmp_path_factory):
    """Two steps of a run, stored under the old names."""
    folder = tmp_path_factory.mktemp("old")
    config = tiny("--config.train.steps=2")
    train(config, folder / "run", evaluations=(), quiet=True)
    reader = Checkpoints(folder / "run")
    state = reader.restore(2, abstract(config))
    reader.close()
    shutil.rmtree(folder / "run" / "checkpoints")
    arrays, texts = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
    handlers = {name: arrays() for name in ("parameters", "ema", "training")}
    handlers |= {name: texts() for name in ("position", "config")}
    manager = ocp.CheckpointManager(folder / "run" / "checkpoints", item_handlers=handlers)
    training = {
        "step": state.step,
        "optimizer": state.optimizer,
        "skipped": state.skipped,
        "usual_grad_norm": state.grad_norm_ema,
    }
    items = {
        "parameters": ocp.args.StandardSave(state.parameters),
        "ema": ocp.args.StandardSave(state.ema),
        "training": ocp.args.StandardSave(training),
        "position": ocp.args.JsonSave({"batches": 2}),
        "config": ocp.args.JsonSave(with_old_keys(config)),
    }
    manager.save(2, args=ocp.args.Composite(**items))
    manager.close()
    return folder / "run", state


def test_its_state_is_restored_to_the_bit(old_run, tiny):
    run, saved = old_run
    checkpoints = Checkpoints(run)
    found = checkpoints.restore(2, abstract(tiny("--config.train.steps=2")))
    checkpoints.close()
    assert float(found.grad_norm_ema) == float(saved.grad_norm_ema) > 0
    np.testing.assert_array_equal(
        found.parameters["head"]["output"]["linear"]["kernel"],
        saved.parameters["head"]["output"]["linear"]["kernel"],
    )


def test_its_config_means_the_same(old_run, tiny):
    run, _ = old_run
    with RunReader(run) as reader:
        assert resolve(reader.config(2)) == resolve(tiny("--config.train.steps=2"))


@pytest.mark.slow
def test_its_run_continues_with_the_losses_of_a_run_that_was_never_stopped(
    old_run, tiny, losses, tmp_path
):
    run, _ = old_run
    shutil.copytree(run, tmp_path / "run")
    config = tiny("--config.train.steps=4")
    assert train(config, tmp_path / "run", evaluations=(), quiet=True).step == 4
    train(config, tmp_path / "whole", evaluations=(), quiet=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_an_old_key_on_the_command_line_is_refused_with_the_new_one():
    with pytest.raises(UserError, match=r"train\.evaluate_every is now evaluations\."):
        load_recipe("nano_m3", ["--config.train.evaluate_every=3"])
