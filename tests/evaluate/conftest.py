"""Images to evaluate, and a stand-in for a trained model that returns the first source."""

import numpy as np
import pytest

from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.images import write_image
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.sample import TrainedModel
from ditfuse_jax.train import load_recipe, resolve


@pytest.fixture
def first_source_model(evaluation_recipe, monkeypatch) -> TrainedModel:
    """The nano recipe with a sampler that returns the image of the first slot."""
    monkeypatch.setattr(
        "ditfuse_jax.sample.stack_fuser.make_sampler",
        lambda *_: lambda parameters, branches, noise, weights: branches.images[0][:, 0],
    )
    recipe = evaluation_recipe
    return TrainedModel(
        None, None, PixelSpace(), {}, recipe.model, recipe.sampling, None, None, "first source"
    )


@pytest.fixture(scope="session")
def evaluation_recipe():
    """The nano recipe with small crops and few examples."""
    words = ["--config.data.crop=(32, 48)", "--config.evaluations.held_out.count=5"]
    return resolve(load_recipe("nano_m3", words))


@pytest.fixture
def make(tmp_path):
    """Writes noise images, other noise at each call: `make("a/x.png", ...)` below `tmp_path`."""
    rng = np.random.default_rng(0)

    def write(*names, size=(40, 36)):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, rng.integers(0, 256, (*size, 3), dtype=np.uint8))

    return write


@pytest.fixture
def own_metrics(monkeypatch) -> None:
    """Metrics that the test registers are removed after it."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS))
