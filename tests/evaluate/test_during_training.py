"""Evaluation during training: fixed held-out examples, scored against what is known of them."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.during_training import HeldOut, held_out_examples
from ditfuse_jax.evaluate.metrics import score
from ditfuse_jax.images import read_image, write_image
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.sample import fuser
from ditfuse_jax.train import Moment
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
def recipe(first_source_model, photos):
    recipe = first_source_model.recipe
    return dataclasses.replace(
        recipe, evaluation=dataclasses.replace(recipe.evaluation, source=photos)
    )


@pytest.fixture
def moment(recipe, tmp_path):
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec())
    raw, averaged = ({"w": jax.device_put(np.float32(value), sharding)} for value in (1, 2))
    state = TrainState(
        step=7, parameters=raw, ema=averaged, optimizer=None, skipped=0, usual_grad_norm=0.0
    )
    return Moment(7, state, Frozen({}, {}), PixelSpace(), recipe, RunFolder(tmp_path / "run"))


def mean_score(examples, images, name):
    pairs = zip(examples, images, strict=True)
    return np.mean([score(image, e.sources, e.target, (name,))[name] for e, image in pairs])


def test_a_model_that_copies_scores_like_the_copy(recipe, moment):
    held_out = HeldOut(recipe)
    scalars = held_out(moment)
    copies = [example.sources[0] for example in held_out.examples]
    assert set(scalars) == {"eval/psnr", "eval/ssim", "eval/psnr_of_mean"}
    for name in ("psnr", "ssim"):
        expected = mean_score(held_out.examples, copies, f"{name.upper()}_clean")
        assert scalars[f"eval/{name}"] == pytest.approx(expected)
    means = [np.mean(e.sources, axis=0).round().astype(np.uint8) for e in held_out.examples]
    expected = mean_score(held_out.examples, means, "PSNR_clean")
    assert scalars["eval/psnr_of_mean"] == pytest.approx(expected, abs=0.05)


def test_a_sheet_of_the_step_is_left_in_the_run_folder(recipe, moment):
    HeldOut(recipe)(moment)
    (sheet,) = moment.run.samples.iterdir()
    assert sheet.name == "step-0000007.png"
    assert read_image(sheet).shape[1] > 4 * 192  # two views, fused, target


@pytest.mark.parametrize(("averaged", "value"), [(True, 2.0), (False, 1.0)])
def test_averaged_parameters_are_used_where_they_are_kept(
    recipe, moment, monkeypatch, averaged, value
):
    used = []

    def make_sampler(*_):
        def run(parameters, branches, noise, weights):
            used.append(float(parameters["w"]))
            return branches.images[0][:, 0]

        return run

    monkeypatch.setattr(fuser, "make_sampler", make_sampler)
    state = moment.state if averaged else dataclasses.replace(moment.state, ema=None)
    HeldOut(recipe)(dataclasses.replace(moment, state=state))
    assert set(used) == {value}


def test_the_examples_are_the_same_in_every_run_and_differ_from_each_other(photos):
    source = open_source(photos)
    first, again = (held_out_examples(source, "m3", (32, 48), 4, seed=0) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.sources, other.sources)
        np.testing.assert_array_equal(one.target, other.target)
        assert one.prompt == other.prompt
        assert one.target.shape == (32, 48, 3)
    assert (first[0].target != first[2].target).any()  # the same photograph, another crop
    other_seed = held_out_examples(source, "m3", (32, 48), 1, seed=1)
    assert (other_seed[0].target != first[0].target).any()


def test_a_source_that_does_not_suit_the_task_is_refused_before_training(photos):
    with pytest.raises(UserError, match=r"'ivif' takes 2 image\(s\) at a time.* has 1"):
        held_out_examples(open_source(photos), "ivif", (32, 32), 2, seed=0)
