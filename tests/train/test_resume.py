"""A run that was stopped continues as if it had not been."""

import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import RUNTIME_FIELDS
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.resources import resource
from ditfuse_jax.train import Checkpoints, load_recipe, resolve, train
from ditfuse_jax.train.changes import check_same_model, to_plain
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.state import abstract_state

pytestmark = pytest.mark.medium


def load(folder, config, step):
    recipe = resolve(config)
    partitioner = Partitioner(make_mesh(MeshConfig(), jax.devices()[:1]))
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    checkpoints = Checkpoints(folder)
    abstract = abstract_state(recipe.network, optimizer, recipe.step.ema_decay > 0, partitioner)
    state = checkpoints.restore(step, abstract)
    checkpoints.close()
    return state


def assert_bitwise_equal(one, other):
    leaves, structure = jax.tree.flatten(one)
    others, other_structure = jax.tree.flatten(other)
    assert structure == other_structure
    for a, b in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope="module")
def six(tiny):
    """The config of six steps."""
    return tiny("--config.train.steps=6")


@pytest.fixture(scope="module")
def whole(six, tmp_path_factory):
    """A run of six steps that was never stopped; tests must not change it."""
    folder = tmp_path_factory.mktemp("six") / "whole"
    assert train(six, folder, evaluations=(), quiet=True).step == 6
    return folder


def test_the_batch_after_a_restart_is_the_one_that_was_due(six, whole):
    state = load(whole, six, 6)
    stream = resolve(six).data
    batches = stream.batches()
    for _ in range(6):
        next(batches)
    due, restarted = next(batches), next(stream.batches(int(state.step)))
    for name in due:
        np.testing.assert_array_equal(due[name], restarted[name])


KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
from ditfuse_jax.resources import resource
from ditfuse_jax.train import checkpoint, load_recipe, train
save = checkpoint.Checkpoints.save
def save_and_die(self, step, *rest):
    save(self, step, *rest)
    if step == 4:
        # The writing goes on in the background: die as soon as it has begun.
        while not [p for p in self.folder.iterdir() if p.name.startswith("4.")]:
            pass
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoints.save = save_and_die
train(load_recipe("nano_m3", sys.argv[2:]), sys.argv[1], evaluations=(), quiet=True)
"""


@pytest.mark.processes
@pytest.mark.slow
def test_a_kill_during_a_save_leaves_the_previous_checkpoint(
    tiny, overrides, run_code, losses, whole, tmp_path
):
    run = tmp_path / "run"
    arguments = overrides("--config.train.steps=6", "--config.train.checkpoint_every=2")
    killed = run_code(KILLED_WHILE_SAVING, str(run), *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    left = {path.name for path in (run / "checkpoints").iterdir()}
    assert "2" in left
    assert "4" not in left
    assert any(name.startswith("4.") for name in left)  # the kill did hit a save in progress
    config = tiny("--config.train.steps=6", "--config.train.checkpoint_every=2")
    load(run, config, 2)
    assert train(config, run, evaluations=(), quiet=True).step == 6
    assert losses(run) == losses(whole)
    assert all(path.name.isdigit() for path in (run / "checkpoints").iterdir())


@pytest.mark.processes
def test_sigterm_saves_and_the_same_command_continues_bit_by_bit(tiny, start, losses, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    process = start(run, "--config.train.steps=2000")
    deadline = time.monotonic() + 120
    while not ((run / "metrics.jsonl").exists() and losses(run)):
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    output = process.stderr.read()
    (saved,) = [int(path.name) for path in (run / "checkpoints").iterdir()]
    assert f"step {saved} of 2000 is saved in {run}; run the same command to continue" in output
    last = saved + 3
    again = start(run, f"--config.train.steps={last}")
    assert again.wait(timeout=120) == 0
    assert f"continuing {run} at step {saved}" in again.stderr.read()
    assert sorted(losses(run)) == list(range(1, last + 1))
    # The same as in one process without a stop.
    config = tiny(f"--config.train.steps={last}")
    assert train(config, whole, evaluations=(), quiet=True).step == last
    # Parameters, moments, EMA, counters.
    assert_bitwise_equal(load(whole, config, last), load(run, config, last))
    assert losses(whole) == losses(run)


def test_a_finished_run_is_left_alone(six, whole):
    before = (whole / "metrics.jsonl").read_text()
    assert train(six, whole, evaluations=(), quiet=True).step == 6
    assert (whole / "metrics.jsonl").read_text() == before


def test_another_model_in_the_same_folder_is_refused(tiny, whole):
    other = tiny("--config.train.steps=7", "--config.model.intermediate_size=96")
    with pytest.raises(UserError, match=r"model\.intermediate_size is 64 there and 96"):
        train(other, whole, evaluations=(), quiet=True)
    assert [p.name for p in (whole / "checkpoints").iterdir()] == ["6"]


def test_a_run_that_is_older_than_a_field_of_the_model_had_its_default():
    config = load_recipe("nano_m3")
    saved = {"model": to_plain(config.model), "lora": to_plain(config.lora)}
    del saved["model"]["pooled_prompt"], saved["lora"]["quantize"]
    check_same_model(saved, config, Path("run"))
    with config.unlocked():
        config.model.pooled_prompt = True
    with pytest.raises(UserError, match=r"model\.pooled_prompt is False there and True"):
        check_same_model(saved, config, Path("run"))
    with config.unlocked():
        config.model.pooled_prompt = False
        config.lora.quantize = "nf4"
    with pytest.raises(UserError, match=r"lora\.quantize is '' there and 'nf4'"):
        check_same_model(saved, config, Path("run"))


@pytest.mark.parametrize("name", RUNTIME_FIELDS)
def test_how_a_model_runs_may_change_within_a_run(name):
    config = load_recipe("nano_m3")
    saved = {"model": to_plain(config.model), "lora": to_plain(config.lora)}
    saved["model"][name] = "something else"
    check_same_model(saved, config, Path("run"))


def test_a_missing_and_a_surplus_leaf_are_named(tiny, six, whole, tmp_path):
    deeper = tiny("--config.train.steps=6", "--config.model.num_layers=3")
    with pytest.raises(UserError, match="another shape for parameters/transformer/layers"):
        load(whole, deeper, 6)
    plain = tiny("--config.train.steps=1", "--config.model.source_skip=False")
    with pytest.raises(UserError, match="surplus parameters/source_embedder/kernel"):
        load(whole, plain, 6)
    train(plain, tmp_path / "plain", evaluations=(), quiet=True)
    with pytest.raises(UserError, match="lacks parameters/source_embedder/kernel"):
        load(tmp_path / "plain", six, 1)


def test_bad_data_in_the_middle_of_a_run_costs_no_step(tiny, tmp_path, monkeypatch):
    from ditfuse_jax.train import loop

    sound = loop.to_devices
    calls = iter(range(100))

    def fails_at_the_third(batch, partitioner):
        if next(calls) == 2:
            raise UserError("photo.png: is damaged or truncated")
        return sound(batch, partitioner)

    monkeypatch.setattr(loop, "to_devices", fails_at_the_third)
    with pytest.raises(UserError, match=r"photo\.png"):
        train(tiny("--config.train.steps=5"), tmp_path / "run", evaluations=(), quiet=True)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["2"]


def test_a_config_that_is_older_than_a_setting_takes_its_default(tiny):
    saved = tiny().to_dict()
    del saved["data"]["max_bad_fraction"], saved["train"]["keep_best"], saved["autoencoder"]
    assert resolve(saved) == resolve(tiny())


def test_a_run_refuses_to_continue_with_another_tokenizer(tiny, tmp_path):
    train(tiny("--config.train.steps=1"), tmp_path / "run", evaluations=(), quiet=True)
    other = tmp_path / "tokenizer"
    shutil.copytree(resource("prompts", "assets"), other)
    text = (other / "tokenizer.json").read_text(encoding="utf-8")
    text = text.replace("<LIGHT+>", "?").replace("<LIGHT->", "<LIGHT+>").replace("?", "<LIGHT->")
    (other / "tokenizer.json").write_text(text, encoding="utf-8")
    config = tiny("--config.train.steps=2", f"--config.data.tokenizer={other}")
    with pytest.raises(UserError, match=r"run was trained with another tokenizer than the one in"):
        train(config, tmp_path / "run", evaluations=(), quiet=True)


def test_an_average_may_begin_and_end_within_a_run(tiny, tmp_path, capsys):
    run, decay = tmp_path / "run", {2: 0.0, 3: 0.9, 4: 0.0}
    settings = ("--config.train.checkpoint_every=1", "--config.train.keep_checkpoints=4")
    configs = {
        steps: tiny(f"--config.train.steps={steps}", f"--config.train.ema_decay={value}", *settings)
        for steps, value in decay.items()
    }
    said = {}
    for steps, config in configs.items():
        train(config, run, evaluations=())
        said[steps] = capsys.readouterr().err
    line = "the run kept no average of its parameters (train.ema_decay=0): it begins with those of"
    assert [line in said[steps] for steps in decay] == [False, True, False]
    states = {steps: load(run, configs[steps], steps) for steps in decay}
    assert states[2].ema is None and states[4].ema is None
    weight = (1 + 2) / (10 + 2)  # of the average before the third update
    for average, old, new in zip(
        *(jax.tree.leaves(t) for t in (states[3].ema, states[2].parameters, states[3].parameters)),
        strict=True,
    ):
        np.testing.assert_allclose(average, weight * old + (1 - weight) * new, atol=1e-6)


def test_a_checkpoint_that_lost_its_average_is_damaged(six, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints" / "6" / "ema")
    with pytest.raises(UserError, match=r"checkpoints/6 is damaged \(item 'ema' is missing\)"):
        load(run, six, 6)


def test_a_folder_of_converted_weights_is_not_a_run_to_continue(tiny, tmp_path):
    config = tiny("--config.train.steps=1")
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save_config(0, config.to_dict())
    checkpoints.close()
    with pytest.raises(UserError, match="holds weights and no training to continue"):
        train(config, tmp_path / "run", evaluations=(), quiet=True)
