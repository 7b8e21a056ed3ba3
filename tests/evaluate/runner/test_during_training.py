"""Evaluation during training on fixed held-out examples."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import compute_metrics
from ditfuse_jax.evaluate.runner import during_training
from ditfuse_jax.evaluate.runner.during_training import held_out_examples
from ditfuse_jax.images import read_image, write_image
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.sample import stack_fuser
from ditfuse_jax.tasks import make_task
from ditfuse_jax.train import Criterion, EvalContext, make_evaluations
from ditfuse_jax.train.evaluations import find_criterion
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.state import Frozen, TrainState


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("x", "y"):
        image = rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{name}.png", image)
    return str(tmp_path / "photos")


@pytest.fixture
def recipe(first_source_model, evaluation_recipe, photos):
    (evaluation,) = evaluation_recipe.evaluations
    options = {**evaluation.options, "source": photos}
    return dataclasses.replace(
        evaluation_recipe, evaluations=(dataclasses.replace(evaluation, options=options),)
    )


def held_out_of(recipe) -> Any:
    """The recipe's one evaluation."""
    (evaluation,) = make_evaluations(recipe)
    return evaluation


@pytest.fixture
def context(recipe, tmp_path):
    partitioner = Partitioner(make_mesh(MeshConfig(), jax.devices()[:1]))
    raw, averaged = (
        {"w": jax.device_put(np.float32(value), partitioner.replicated())} for value in (1, 2)
    )
    state = TrainState(
        step=7, parameters=raw, ema=averaged, optimizer=None, skipped=0, grad_norm_ema=0.0
    )
    run = RunFolder(tmp_path / "run")
    return EvalContext(
        7, state, Frozen({}, {}), PixelSpace(), recipe, run, partitioner, run.samples
    )


def mean_score(examples, images, name):
    pairs = zip(examples, images, strict=True)
    return np.mean(
        [compute_metrics(image, e.sources, e.target, (name,))[name] for e, image in pairs]
    )


def test_trainings_of_any_seed_are_scored_on_the_same_examples(recipe):
    first, other = (
        held_out_of(dataclasses.replace(recipe, seed=seed)).evaluator.examples for seed in (0, 5)
    )
    for left, right in zip(first, other, strict=True):
        np.testing.assert_array_equal(left.sources, right.sources)


def test_a_model_that_copies_scores_like_the_copy(recipe, context):
    evaluation = held_out_of(recipe)
    scalars = evaluation(context)
    held_out = evaluation.evaluator
    copies = [example.sources[0] for example in held_out.examples]
    assert set(scalars) == {"eval/PSNR_clean", "eval/SSIM_clean", "eval/PSNR_clean_of_mean"}
    for name in ("PSNR_clean", "SSIM_clean"):
        expected = mean_score(held_out.examples, copies, name)
        assert scalars[f"eval/{name}"] == pytest.approx(expected)
    means = [np.mean(e.sources, axis=0).round().astype(np.uint8) for e in held_out.examples]
    expected = mean_score(held_out.examples, means, "PSNR_clean")
    assert scalars["eval/PSNR_clean_of_mean"] == pytest.approx(expected, abs=0.05)


def test_a_sheet_that_cannot_be_written_is_one_warning_and_the_scores_count(
    recipe, context, capsys
):
    evaluation = held_out_of(recipe)
    expected = evaluation(context)
    blocked = context.run.path / "a file"
    blocked.write_text("")
    for _ in range(2):
        assert evaluation(dataclasses.replace(context, samples=blocked)) == expected
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("training goes on without the picture")


def test_a_contact_sheet_of_the_step_is_written(recipe, context):
    held_out_of(recipe)(context)
    (sheet,) = context.run.samples.iterdir()
    assert sheet.name == "step-0000007.png"
    assert read_image(sheet).shape[1] > 4 * 192  # two views, fused, target


@pytest.mark.parametrize(("averaged", "value"), [(True, 2.0), (False, 1.0)])
def test_averaged_parameters_are_used_if_there_are_any(
    recipe, context, monkeypatch, averaged, value
):
    used = []

    def make_sampler(*_):
        def run(parameters, branches, noise, weights):
            used.append(float(parameters["w"]))
            return branches.images[0][:, 0]

        return run

    monkeypatch.setattr(stack_fuser, "make_sampler", make_sampler)
    state = context.state if averaged else dataclasses.replace(context.state, ema=None)
    held_out_of(recipe)(dataclasses.replace(context, state=state))
    assert set(used) == {value}


def test_the_examples_are_the_same_in_every_run_and_differ_from_each_other(photos):
    source = open_source(photos)
    first, again = (
        held_out_examples(source, make_task("m3"), (32, 48), 4, seed=0) for _ in range(2)
    )
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.sources, other.sources)
        np.testing.assert_array_equal(one.target, other.target)
        assert one.prompt == other.prompt
        assert one.target.shape == (32, 48, 3)
    assert (first[0].target != first[2].target).any()  # the same photograph, another crop
    other_seed = held_out_examples(source, make_task("m3"), (32, 48), 1, seed=1)
    assert (other_seed[0].target != first[0].target).any()


def with_best(recipe, metric):
    config = dataclasses.replace(recipe.train, keep_best=metric)
    return dataclasses.replace(recipe, train=config)


def test_the_metric_of_keep_best_is_returned_with_its_direction(recipe, context):
    evaluation = held_out_of(with_best(recipe, "MSE"))
    assert find_criterion("MSE", [evaluation]) == Criterion("eval/MSE", "lower")
    held_out = evaluation.evaluator
    copies = [example.sources[0] for example in held_out.examples]
    expected = mean_score(held_out.examples, copies, "MSE")
    assert evaluation(context)["eval/MSE"] == pytest.approx(expected, rel=1e-5)


def test_without_keep_best_there_is_no_criterion(recipe):
    assert find_criterion("", [held_out_of(with_best(recipe, ""))]) is None


@pytest.mark.parametrize(
    ("metric", "crop", "message"),
    [
        ("beauty", (32, 32), "keep_best 'beauty' is not a scalar of the.*PSNR_clean"),
        ("PSNR_clean", (8, 8), "'SSIM_clean' needs"),
    ],
)
def test_impossible_metrics_are_refused_before_training(recipe, metric, crop, message):
    data = dataclasses.replace(recipe.data, crop=crop)
    with pytest.raises(UserError, match=message):
        changed = dataclasses.replace(with_best(recipe, metric), data=data)
        find_criterion(metric, [held_out_of(changed)])


def test_a_metric_of_two_sources_is_refused_for_three_before_training():
    names = ("PSNR_clean", "SCD")
    during_training._check_metrics(names, 2, (32, 32))
    with pytest.raises(UserError, match=r"'SCD' is defined for two sources, not 3; .*keep_best"):
        during_training._check_metrics(names, 3, (32, 32))


@pytest.mark.processes
@pytest.mark.slow
def test_eight_devices_give_the_scores_of_one():
    script = Path(__file__).with_name("held_out_on_meshes.py")
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=Path(__file__).parents[3],
        env=environment | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, *meshes = json.loads(done.stdout.splitlines()[-1])
    assert len(meshes) == 1
    for scalars in meshes:
        assert set(scalars) == {"eval/PSNR_clean", "eval/SSIM_clean", "eval/PSNR_clean_of_mean"}
        for name, value in scalars.items():
            assert value == pytest.approx(one[name], rel=1e-4), name


def test_a_source_that_does_not_suit_the_task_is_refused_before_training(photos):
    with pytest.raises(UserError, match=r"the task takes 2 image\(s\) at a time, the source has 1"):
        held_out_examples(open_source(photos), make_task("ivif"), (32, 32), 2, seed=0)
