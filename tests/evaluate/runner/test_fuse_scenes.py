"""Fused images as files, and the ceiling of a model's autoencoder."""

import dataclasses
import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.evaluate import EvaluationOptions
from ditfuse_jax.evaluate.runner import evaluate as evaluate_module
from ditfuse_jax.evaluate.runner.fuse_scenes import (
    fuse_scenes,
    is_latent_model,
    reconstruct,
)
from ditfuse_jax.evaluate.runner.scenes import Folders, open_scenes
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.flow import SOLVERS
from ditfuse_jax.images import read_image, write_image
from ditfuse_jax.model.space import LatentSpace
from ditfuse_jax.sample.fingerprints import parameters_digest
from ditfuse_jax.sample.stack_fuser import StackFuser

PSNR, EN, MSE = "PSNR_clean", "EN", "MSE"


@dataclasses.dataclass(frozen=True)
class Halving(LatentSpace):
    """An autoencoder whose latents are the means of 2 x 2 pixels."""

    def shape(self, height, width):
        return height // 2, width // 2, 3

    def encode(self, parameters, images, noise):
        blocks = images.reshape(
            *images.shape[:-3], images.shape[-3] // 2, 2, images.shape[-2] // 2, 2, 3
        )
        return blocks.mean(axis=(-4, -2))

    def decode(self, parameters, x):
        return jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)


class Noisy(Halving):
    """Adds the posterior's noise, which sampling draws and a reconstruction must not."""

    def encode(self, parameters, images, noise):
        return super().encode(parameters, images, noise) + noise


@pytest.fixture
def latent_model(first_source_model):
    """The stand-in that copies the first source, on latents."""
    return dataclasses.replace(first_source_model, space=Halving(None, None))


@pytest.fixture
def stacks(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("image1", "image2", "clean"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        for stem in ("x", "y"):
            image = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
            write_image(tmp_path / "in" / folder / f"{stem}.png", image)
    return tmp_path / "in"


@pytest.fixture
def evaluate(latent_model, monkeypatch, tmp_path):
    evaluated = importlib.import_module("ditfuse_jax.evaluate.runner.evaluated_model")
    monkeypatch.setattr(evaluated, "open_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(evaluated, "load_checkpoint", lambda *_, **__: latent_model)

    def run(data, metrics):
        return evaluate_module.evaluate(
            checkpoint=tmp_path / "run",
            data=str(data),
            output=tmp_path / "out",
            options=EvaluationOptions(metrics),
            quiet=True,
        )

    return run


def test_a_reconstruction_has_the_images_size_and_only_the_latents_content(latent_model):
    fuser = StackFuser(latent_model)
    coarse = np.repeat(np.repeat(np.arange(300, dtype=np.uint8).reshape(10, 10, 3), 2, 0), 2, 1)
    np.testing.assert_array_equal(reconstruct(fuser, coarse), coarse)
    odd = np.random.default_rng(0).integers(0, 256, (37, 41, 3), dtype=np.uint8)
    back = reconstruct(fuser, odd)
    assert back.shape == odd.shape and (back != odd).any()


def test_a_reconstruction_has_no_noise(latent_model):
    image = np.random.default_rng(1).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    noisy = dataclasses.replace(latent_model, space=Noisy(None, None))
    expected, found = (
        reconstruct(StackFuser(model, model.sampling), image) for model in (latent_model, noisy)
    )
    np.testing.assert_array_equal(found, expected)


def test_a_model_that_copies_latents_reaches_its_autoencoders_ceiling(evaluate, stacks, tmp_path):
    for path in (stacks / "clean").iterdir():
        path.unlink()
    (stacks / "clean").rmdir()
    results = evaluate(stacks, [EN, MSE])
    assert results.methods[:2] == ["fused", "autoencoder_of_a"]
    for row in results.summary().values():
        assert row["fused"] == row["autoencoder_of_a"] != row["copy_a"]
    assert "autoencoder_of_a" not in results.ranked


def test_the_ceiling_is_that_of_the_clean_image_where_there_is_one(evaluate, stacks, tmp_path):
    results = evaluate(stacks, [PSNR])
    row = results.summary()[PSNR]
    assert row["autoencoder_of_clean"] > max(row["fused"], row["mean"], row["copy_a"])
    trip = read_image(tmp_path / "out" / "autoencoder" / "x.png")
    clean = read_image(stacks / "clean" / "x.png")
    blocks = clean.reshape(20, 2, 18, 2, 3).mean(axis=(1, 3))
    assert np.abs(trip[::2, ::2] - blocks).max() <= 1
    assert "autoencoder of clean" in (tmp_path / "out" / "report.html").read_text()


def test_a_model_on_pixels_has_no_ceiling(first_source_model, latent_model):
    assert is_latent_model(latent_model) and not is_latent_model(first_source_model)


def test_other_weights_have_another_digest(first_source_model):
    rng = np.random.default_rng(0)
    large = rng.normal(size=(300, 400)).astype(np.float32)

    def digest(**parameters):
        leaves = {name: jnp.asarray(value) for name, value in parameters.items()}
        return parameters_digest(dataclasses.replace(first_source_model, parameters=leaves))

    assert digest(a=large) == digest(a=large.copy())
    trained = large + rng.normal(size=large.shape).astype(np.float32) * 1e-6
    others = [digest(a=trained), digest(b=large), digest(a=large.T), digest(a=large, b=large[:1])]
    assert len({digest(a=large), *others}) == 5


def test_unrolled_layers_are_the_same_model(first_source_model):
    unrolled = dataclasses.replace(first_source_model.model, unroll=True)
    other = dataclasses.replace(first_source_model, model=unrolled)
    assert parameters_digest(other) == parameters_digest(first_source_model)


@pytest.mark.parametrize("solver", ["own", "euler"])
def test_images_are_fused_again_where_the_code_of_their_registered_solver_changed(
    first_source_model, stacks, tmp_path, monkeypatch, solver
):
    monkeypatch.setattr(SOLVERS, "_entries", dict(SOLVERS))
    monkeypatch.setattr("ditfuse_jax.extensions._loaded", {})
    extension = tmp_path / f"solver_{solver}.py"
    extension.write_text(
        "from ditfuse_jax.flow.solvers import SOLVERS, euler\n"
        "SOLVERS.register('own', lambda *arguments: euler(*arguments))\n"
    )
    load_extensions([str(extension)])
    sampling = dataclasses.replace(first_source_model.sampling, solver=solver)
    fuser = StackFuser(first_source_model, sampling)
    scenes = open_scenes(Folders((stacks / "image1", stacks / "image2")))

    def fuses() -> bool:
        fused = fuse_scenes(fuser, "fuse", scenes, tmp_path / "fused", quiet=True)
        return fused.seconds_per_image is not None and fused.seconds_per_image > 0

    assert fuses() and not fuses()
    extension.write_text(extension.read_text() + "# edited")
    assert fuses() == (solver == "own")
    assert not fuses()
