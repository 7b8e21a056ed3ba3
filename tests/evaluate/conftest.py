"""A stand-in for a trained model: its fused image is the first source."""

import pytest

from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.sample import TrainedModel
from ditfuse_jax.train import load_recipe, resolve


@pytest.fixture
def first_source_model(monkeypatch) -> TrainedModel:
    """The nano recipe with a sampler that returns the image of the first slot."""
    monkeypatch.setattr(
        "ditfuse_jax.sample.fuser.make_sampler",
        lambda *_: lambda parameters, branches, noise, weights: branches.images[0][:, 0],
    )
    words = ["--config.data.crop=(32, 48)", "--config.evaluation.count=5"]
    recipe = resolve(load_recipe("nano_m3", words))
    return TrainedModel(None, None, PixelSpace(), {}, recipe, "first source")
