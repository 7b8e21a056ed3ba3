"""Programs that are read or compiled while the images of the first batch are prepared."""

import threading
import tracemalloc

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax import registry
from ditfuse_jax.files import PROGRAMS_VARIABLE
from ditfuse_jax.model.network import Network
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.sample import FusionInput, StackFuser, TrainedModel
from ditfuse_jax.sample.trained import for_sampling
from ditfuse_jax.train import load_recipe, resolve
from ditfuse_jax.xla import kept_programs
from ditfuse_jax.xla.kept_programs import KeptProgram, free_loaded

SETTINGS = (
    "--config.model.hidden_size=32",
    "--config.model.num_layers=1",
    "--config.model.num_heads=2",
    "--config.model.num_kv_heads=2",
    "--config.model.intermediate_size=64",
    "--config.sample.steps=2",
    "--config.sample.tile=64",
    "--config.sample.guidance_scale=2.0",
    "--config.sample.image_guidance_scale=1.6",
)
SWAPPED = "Take the edges of <img><|image_2|></img> and the colours of <img><|image_1|></img>."


@pytest.fixture(scope="module")
def trained():
    recipe = resolve(load_recipe("nano_m3", SETTINGS))
    network = Network(recipe.model)
    parameters = nnx.to_pure_dict(nnx.state(network.build(0)))
    structure = for_sampling(network, recipe.sampling)
    return TrainedModel(
        structure, parameters, PixelSpace(), {}, recipe.model, recipe.sampling, None, None, "nano"
    )


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """The keys of programs that were prepared, and of those that were called."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(registry, "_outside", 0)
    monkeypatch.setattr(kept_programs, "loaded_extensions", lambda: ())
    monkeypatch.setattr(kept_programs, "_unusable", set())
    found = {"prepared": set(), "called": set()}
    find = KeptProgram._find

    def recorded(self, path, args, wait=True):
        found["called" if wait else "prepared"].add(path.stem)
        return find(self, path, args, wait)

    monkeypatch.setattr(KeptProgram, "_find", recorded)
    free_loaded()
    yield found
    for thread in threading.enumerate():
        if thread.name in ("programs", "compile"):
            thread.join()
    free_loaded()


def stack(height, width):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)]


@pytest.mark.medium
@pytest.mark.parametrize("prompt", ["Fuse <img><|image_1|></img> <img><|image_2|></img>.", SWAPPED])
@pytest.mark.parametrize("changes", [{}, {"solver": "heun"}, {"global_steps": 1}])
def test_what_is_prepared_is_what_the_call_computes_with(trained, keys, prompt, changes):
    fuser = StackFuser(trained, trained.sampling.override(changes))
    fuser.fuse([FusionInput(stack(96, 96), prompt)])
    for thread in threading.enumerate():
        if thread.name == "programs":
            thread.join()
    assert len(keys["prepared"]) == 2  # the sources are encoded, the velocities computed
    assert keys["prepared"] <= keys["called"]


@pytest.mark.medium
def test_contexts_of_the_caller_hold_for_what_is_prepared(trained, keys):
    fuser = StackFuser(trained)
    with jax.default_matmul_precision("highest"):
        fuser.fuse([FusionInput(stack(96, 64), SWAPPED)])
    for thread in threading.enumerate():
        if thread.name == "programs":
            thread.join()
    assert len(keys["prepared"]) == 2
    assert keys["prepared"] <= keys["called"]


def test_preparing_for_large_images_takes_little_memory(trained, monkeypatch):
    """Also where the image slots are in another order than the sources."""
    prepared = []
    monkeypatch.setattr(
        "ditfuse_jax.sample.stack_fuser.prepare_sampler", lambda *args: prepared.append(args[3])
    )
    fuser = StackFuser(trained)
    inputs = [FusionInput(stack(8, 8), SWAPPED)]
    tracemalloc.start()
    fuser._prepare_programs(inputs, (1, 2, 2048, 2048, 3), np.ones(3, np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert prepared[0].images.shape == (3, 1, 2, 2048, 2048, 3)
    assert peak < prepared[0].images.nbytes / 10
