"""Distillation on the training step: targets, teachers, resume."""

import dataclasses
import shutil
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax import api
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import find_solver
from ditfuse_jax.flow.distillation import Draws
from ditfuse_jax.model.network import Network, init_parameters, make_graph
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.sample.sampler import sample
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.tasks import make_task
from ditfuse_jax.train import load_recipe, resolve, train
from ditfuse_jax.train.distill import distill_from, distilling, parameters_fingerprint
from ditfuse_jax.train.step import model_inputs
from ditfuse_jax.weights import open_checkpoint

pytestmark = pytest.mark.medium

# The teacher: guided, eight steps.
GUIDED = (
    "--config.model.head=linear",
    "--config.sample.steps=8",
    "--config.sample.guidance_scale=2.0",
    "--config.sample.image_guidance_scale=1.6",
)
SHORT = (
    "--config.data.crop=(32, 32)",
    "--config.data.batch_size=4",
    "--config.optimizer.schedule=constant",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=0",
    "--config.evaluations.held_out.count=2",
)


@pytest.fixture(scope="module")
def teacher(tiny, tmp_path_factory):
    """The run of a tiny guided model after two steps."""
    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    train(tiny(*GUIDED, "--config.train.steps=2"), folder, evaluations=(), quiet=True)
    return folder


@pytest.fixture
def distilled(teacher):
    """Distils the teacher into a folder."""

    def run(folder, *overrides):
        api.distill(teacher, "nano_distill", folder, overrides=[*SHORT, *overrides], quiet=True)
        return folder

    return run


@pytest.fixture(scope="module")
def recipe(teacher):
    """The resolved recipe of a student of one step."""
    config = load_recipe("nano_distill")
    with config.unlocked():
        config.data.crop, config.data.batch_size = (32, 32), 4
        config.sample.steps = 1
        config.distill.loss, config.distill.sample = "student_trajectory", {"steps": 4}
        distill_from(config, str(teacher))
    return resolve(config)


def test_the_target_is_what_the_sampler_makes_of_the_same_noise(recipe, teacher):
    """Independent of it in how branches are encoded, cached and integrated."""
    trained = load_trained(teacher)
    sampling = recipe.step.teacher.distillation.teacher
    assert len(sampling.guidance.branches) == 3
    photograph = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    example = make_task("m3")([photograph], np.random.default_rng(1), (32, 32))
    fuser = StackFuser(trained, dataclasses.replace(sampling, text_slots=recipe.model.text_slots))
    images = np.stack(example.sources)[None]
    branches = fuser._branches(
        [FusionInput(example.sources, example.prompt)], images.astype("f4") / 127.5 - 1
    )
    graph, _ = make_graph(Network(recipe.model))
    model = nnx.merge(graph, trained.parameters)
    noise = jax.random.normal(jax.random.key(3), (1, 32, 32, 3))
    weights = jnp.array([sampling.guidance.weights[n] for n in sampling.guidance.branches])
    times = jnp.asarray(sampling.time_grid(4))
    expected = sample(model, branches, noise, weights, times, find_solver("euler"))

    arrays = recipe.data.encoder(example, np.random.default_rng(0))
    batch = {name: jnp.asarray(array)[None] for name, array in arrays.items()}
    condition, image = model_inputs(batch, PixelSpace(), {}, jnp.zeros((1, 3, 32, 32, 3)))
    draws = Draws(image, noise[:, None], jnp.zeros((1, 1)))
    points = recipe.step.teacher.points(model, trained.parameters, condition, draws)
    end = points.x[:, 0] + points.velocity[:, 0]
    np.testing.assert_allclose(end, expected, atol=2e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(distilled, losses, tmp_path):
    """Without guidance and with as many steps, the target is what it predicts."""
    same = (
        "--config.distill.sample.guidance_scale=1.0",
        "--config.distill.sample.image_guidance_scale=1.0",
        "--config.distill.sample.solver=euler",
        "--config.distill.sample.steps=4",
        "--config.train.steps=1",
    )
    alike = losses(distilled(tmp_path / "same", *same))[1]
    guided = losses(distilled(tmp_path / "guided", "--config.train.steps=1"))[1]
    assert alike < 1e-9 < 1e-6 < guided


def test_that_holds_for_a_clean_prediction_at_the_last_of_many_steps(distilled, losses, tmp_path):
    """The divisor of the training's own loss has a bound, which these steps go below."""
    many = (
        "--config.distill.sample.guidance_scale=1.0",
        "--config.distill.sample.image_guidance_scale=1.0",
        "--config.distill.sample.solver=euler",
        "--config.distill.sample.steps=32",
        "--config.sample.steps=32",
        "--config.train.steps=1",
    )
    assert losses(distilled(tmp_path / "many", *many))[1] < 1e-7


def test_a_students_run_samples_in_few_steps_without_guidance_by_default(distilled, tmp_path):
    run = distilled(tmp_path / "run", "--config.train.steps=1")
    checkpoint = open_checkpoint(run)
    assert checkpoint.sampling.steps == 4
    assert checkpoint.sampling.guidance.branches == ("cond",)
    config = checkpoint.config or {}
    assert config["distill"]["sample"]["guidance_scale"] == 2.0
    assert config["data"]["condition_dropout"] == 0.0


def test_a_stopped_distillation_goes_on_bit_by_bit(distilled, losses, tmp_path):
    whole = distilled(tmp_path / "whole", "--config.train.steps=4")
    parts = distilled(tmp_path / "parts", "--config.train.steps=2")
    distilled(parts, "--config.train.steps=4")
    assert losses(whole) == losses(parts)
    one, other = (open_checkpoint(folder) for folder in (whole, parts))
    for path in one.shapes():
        np.testing.assert_array_equal(one.read_leaf(path), other.read_leaf(path))


@pytest.mark.processes
@pytest.mark.slow
def test_a_killed_distillation_is_continued_by_the_same_command(
    teacher, start, distilled, losses, tmp_path
):
    run = tmp_path / "run"
    command = ("--config.train.checkpoint_every=2", "--config.train.steps=6")
    process = start(run, *SHORT, *command, distil=teacher)
    deadline = time.monotonic() + 300
    while not (run / "checkpoints" / "2").is_dir():
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = start(run, *SHORT, *command, distil=teacher)
    assert again.wait(timeout=300) == 0, again.stderr.read()[-2000:]
    assert losses(run) == losses(distilled(tmp_path / "whole", *command))


def test_a_teacher_that_has_changed_is_refused(tiny, distilled, teacher, tmp_path):
    run = distilled(tmp_path / "run", "--config.train.steps=1")
    other = tmp_path / "other"
    train(tiny(*GUIDED, "--config.train.steps=3"), other, evaluations=(), quiet=True)
    with pytest.raises(UserError, match="whose weights are not the ones given now"):
        api.distill(other, "nano_distill", run, overrides=[*SHORT, "--config.train.steps=2"])
    # Elsewhere, the same weights are the same teacher.
    moved = tmp_path / "moved"
    teacher_step = next((teacher / "checkpoints").iterdir())
    moved.mkdir()
    (moved / "checkpoints").mkdir()
    shutil.copytree(teacher_step, moved / "checkpoints" / teacher_step.name)
    overrides = [*SHORT, "--config.train.steps=2"]
    assert api.distill(moved, "nano_distill", run, overrides=overrides, quiet=True).step == 2
    # In another computation type, too, though it reads other numbers.
    overrides = [*SHORT, "--config.train.steps=3", "--config.model.dtype=bfloat16"]
    assert api.distill(teacher, "nano_distill", run, overrides=overrides, quiet=True).step == 3


def test_guidance_alone_is_distilled_with_several_draws(distilled, losses, tmp_path):
    run = distilled(
        tmp_path / "run",
        "--config.distill.loss=guidance",
        "--config.flow.draws=2",
        "--config.train.steps=1",
    )
    assert losses(run)[1] > 0
    assert open_checkpoint(run).sampling.steps == 8  # the teacher's


def test_a_student_of_guidance_keeps_steps_and_solver_unless_told_otherwise(tiny, tmp_path):
    solver = "--config.sample.solver=dpmpp_2m"
    train(tiny(*GUIDED, solver, "--config.train.steps=1"), tmp_path, evaluations=(), quiet=True)
    recipe, loss = load_recipe("nano_distill"), "--config.distill.loss=guidance"
    before = recipe.to_json_best_effort()
    kept = resolve(distilling(recipe, str(tmp_path), [loss])).sampling
    assert (kept.steps, kept.solver, kept.guidance.branches) == (8, "dpmpp_2m", ("cond",))
    few = distilling(recipe, str(tmp_path), [loss, "--config.sample.steps=5"])
    assert few.sample.steps == 5
    assert recipe.to_json_best_effort() == before  # another call begins with the same recipe
    other = "--config.distill.sample.solver=dpmpp_2m"
    with pytest.raises(UserError, match="solver must be euler or midpoint, not 'dpmpp_2m'"):
        resolve(distilling(recipe, str(tmp_path), [other]))
    with pytest.raises(UserError, match=r"has no effect with distill\.loss 'guidance'"):
        distilling(recipe, str(tmp_path), [loss, other])


def test_a_recipe_of_distillation_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(UserError, match="use `ditfuse distill TEACHER --config RECIPE`"):
        train(load_recipe("nano_distill"), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_more_draws_than_steps_of_the_student_are_refused(distilled, tmp_path):
    with pytest.raises(UserError, match=r"flow\.draws must be 1"):
        distilled(tmp_path / "run", "--config.flow.draws=2")


class TestFingerprint:
    @pytest.fixture(scope="class")
    def parameters(self, tiny):
        return init_parameters(resolve(tiny()).network, jax.random.key(0))

    def test_it_depends_on_every_number_and_its_place(self, parameters):
        before = parameters_fingerprint(parameters)
        leaf = parameters["embed_tokens"]
        assert parameters_fingerprint(parameters | {"embed_tokens": leaf[::-1]}) != before
        last = leaf.at[-1, -1].add(1e-7)
        assert parameters_fingerprint(parameters | {"embed_tokens": last}) != before

    @pytest.mark.parametrize("dtype", ["int8", "int4", "bfloat16"])
    def test_narrow_types_count_too(self, dtype):
        numbers = jnp.arange(-6, 6).astype(dtype).reshape(3, 4)
        prints = [parameters_fingerprint({"x": x}) for x in (numbers, numbers.at[1, 1].add(1))]
        assert prints[0] != prints[1]

    def test_equal_numbers_have_equal_fingerprints(self, parameters):
        copied = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), parameters)
        assert parameters_fingerprint(copied) == parameters_fingerprint(parameters)
