"""Bundles: trained models in two files that mean the same on any machine."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from ditfuse_jax.convert.convert import convert
from ditfuse_jax.convert.publish import push
from ditfuse_jax.convert.transforms import cast
from ditfuse_jax.convert.write_bundle import write_bundle
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.heads import HEADS
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.parallel.abstract import abstract_model
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.train import resolve
from ditfuse_jax.train.initial import initialize_from, load_initial
from ditfuse_jax.train.recipe import default_config
from ditfuse_jax.weights import Checkpoint, open_checkpoint, write_safetensors
from ditfuse_jax.weights.adapters import InMemory
from ditfuse_jax.weights.bundle import RECIPE, TENSORS, without_paths

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def weights(models):
    """Random weights of a model on pixels, as a run gives them to a conversion."""
    config = default_config("nano")
    # The embedding must have a row for every token.
    model = dataclasses.replace(models.PIXEL, preset="nano", vocab_size=2048)
    config.model = ConfigDict(model.to_dict())
    config.sample.steps = 3
    return trained_here(model, models.parameters(model), config.to_dict())


def trained_here(model, parameters, config):
    """A checkpoint of a model that was trained here, and its parameters by path."""
    path = Path("/nowhere/run")
    flat = leaves(parameters)
    reader, sampling = InMemory(parameters, path), SamplingConfig.from_dict(config["sample"])
    return Checkpoint("run", "run", path, model, reader, sampling=sampling, config=config), flat


@pytest.fixture
def bundle(weights, tmp_path):
    write_bundle(weights[0], tmp_path / "bundle", quiet=True)
    return tmp_path / "bundle"


def leaves(tree):
    return {
        tuple(key.key for key in path): np.asarray(value)
        for path, value in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_the_parameters_and_settings_of_a_bundle_are_those_written(weights, bundle):
    trained = load_trained(bundle)
    assert trained.sampling.steps == 3 and trained.name == "bundle"
    found = leaves(trained.parameters)
    assert found.keys() == weights[1].keys()
    for path, value in weights[1].items():
        np.testing.assert_array_equal(found[path], value)


def test_a_bundle_of_merged_weights_has_the_sampling_settings_of_the_adapter(weights, tmp_path):
    merged = dataclasses.replace(weights[0], sampling=weights[0].sampling.override({"steps": 2}))
    write_bundle(merged, tmp_path / "bundle", quiet=True)
    assert open_checkpoint(tmp_path / "bundle").sampling.steps == 2


def test_a_bundle_in_bfloat16_keeps_the_weights_to_its_precision(weights, tmp_path):
    write_bundle(cast(weights[0], "bfloat16"), tmp_path / "half", quiet=True)
    found = leaves(load_trained(tmp_path / "half").parameters)
    for path, value in weights[1].items():
        assert found[path].dtype == np.float32
        np.testing.assert_allclose(found[path], value, rtol=2**-8)


def test_a_bundle_names_no_folder_of_the_machine_it_was_made_on(weights, tmp_path):
    recipe = json.loads(json.dumps(weights[0].config))
    recipe["data"]["mixture"]["photos"]["source"] = "/home/somebody/photographs"
    recipe["imports"] = ["/home/somebody/tasks.py", "their_package.tasks"]
    recipe["data"]["cache"] = recipe["weights"] = "/scratch/somebody"
    recipe["lora"]["adapter"] = recipe["distill"]["teacher"] = "/home/somebody/adapter"
    recipe["sample"]["negative_prompt"] = "dark/noisy"
    recipe["evaluations"]["streets"] = {
        "evaluator": "held_out",
        "source": "labelled:/home/somebody/test",
        "task": "m3:block_sides=16+32",
        "more": ["~/somebody", {"folder": "C:\\somebody"}],
    }
    sampling = SamplingConfig.from_dict(recipe["sample"])
    there = dataclasses.replace(weights[0], config=recipe, sampling=sampling)
    write_bundle(there, tmp_path / "bundle", quiet=True)
    written = (tmp_path / "bundle" / RECIPE).read_text()
    assert "somebody" not in written
    found = json.loads(written)
    assert found["imports"] == ["their_package.tasks"]
    assert found["evaluations"]["held_out"] == recipe["evaluations"]["held_out"]
    assert found["sample"]["negative_prompt"] == "dark/noisy"
    assert found["evaluations"]["streets"]["task"] == "m3:block_sides=16+32"


def test_a_pushed_run_folder_names_no_folder_and_a_local_one_keeps_what_training_needs(
    bundle, tmp_path
):
    recipe = json.loads((bundle / RECIPE).read_text())
    recipe["data"]["mixture"] = {"photos": {"source": "/home/somebody/photographs", "task": "m3"}}
    (bundle / RECIPE).write_text(json.dumps(recipe))
    local = convert(bundle, tmp_path / "local", to="run", quiet=True)
    pushed = convert(bundle, tmp_path / "pushed", to="run", push="hf://me/m", quiet=True)
    config = open_checkpoint(local).config
    assert config is not None and config["data"]["mixture"] == recipe["data"]["mixture"]
    assert open_checkpoint(pushed).model == open_checkpoint(local).model
    files = [path for path in pushed.rglob("*") if path.is_file()]
    assert files and not any(b"somebody" in path.read_bytes() for path in files)
    push(pushed, "hf://me/m", dry_run=True)
    (local / "README.md").write_text("# Mine")
    with pytest.raises(UserError, match=r"mixture\.photos\.source = '/home/somebody/photographs'"):
        push(local, "hf://me/m", dry_run=True)


def test_what_means_the_same_on_every_machine_stays_in_a_config():
    recipe = default_config("nano").to_dict()
    recipe["weights"], recipe["autoencoder"] = "small", f"hf://lab/OmniGen@{40 * '0'}/vae"
    found = without_paths(recipe)
    assert without_paths(found) == found
    data = recipe["data"] | {"mixture": {}}
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(recipe | {"data": data}))


def test_a_bundle_loads_the_modules_that_its_model_needs(bundle, tmp_path, monkeypatch):
    path = bundle / RECIPE
    recipe = json.loads(path.read_text())
    recipe["model"]["head"] = "mine"
    path.write_text(json.dumps(recipe))
    with pytest.raises(UserError, match=r"recipe\.json: head 'mine' is unknown: .* with --import"):
        open_checkpoint(bundle)
    monkeypatch.setattr(HEADS, "_entries", dict(HEADS))
    (tmp_path / "module_of_a_head.py").write_text(
        "from ditfuse_jax.model.heads import HEADS\nHEADS.register('mine', HEADS['linear'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path.write_text(json.dumps(recipe | {"imports": ["module_of_a_head"]}))
    assert open_checkpoint(bundle).model.head == "mine"


def test_training_starts_from_a_bundle(weights, bundle):
    config = default_config("nano")
    initialize_from(config, str(bundle))
    assert config.weights == str(bundle)
    assert open_checkpoint(bundle).model == weights[0].model


def test_runtime_settings_stay_those_of_the_recipe(bundle):
    config = default_config("nano")
    config.model.unroll, config.model.remat = True, "projections"
    initialize_from(config, str(bundle))
    assert (config.model.unroll, config.model.remat) == (True, "projections")


def test_a_stem_can_be_trained_on_weights_that_have_none(models, weights, tmp_path):
    parameters = {
        name: part
        for name, part in models.parameters(weights[0].model).items()
        if name != "source_stem"
    }
    model = dataclasses.replace(weights[0].model, conv_stem=False)
    recipe = weights[0].config | {"model": model.to_dict()}
    plain, flat = trained_here(model, parameters, recipe)
    write_bundle(plain, tmp_path / "bundle", quiet=True)
    config = default_config("nano")
    initialize_from(config, str(tmp_path / "bundle"))
    config.model.conv_stem = True
    config.model.max_images = model.max_images
    resolved = resolve(config)
    partitioner = Partitioner(make_mesh(MeshConfig(), jax.devices()[:1]))
    found = leaves(load_initial(resolved, abstract_model(resolved.model, partitioner)))
    assert found.keys() == weights[1].keys()
    for path, value in flat.items():
        np.testing.assert_array_equal(found[path], value)
    assert found["source_stem", "out", "kernel"].std() > 0
    config.model.num_layers += 1
    with pytest.raises(UserError, match=r"have model\.num_layers"):
        load_initial(resolve(config), {})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda flat: flat.pop("embed_tokens"), "lacks embed_tokens"),
        (lambda flat: flat.update(extra=np.zeros(3, "f4")), "has the unknown tensor extra"),
        (lambda flat: flat.update(embed_tokens=np.zeros((2, 2), "f4")), "has shape .2, 2., the"),
    ],
)
def test_a_bundle_of_another_model_is_refused_by_the_tensor(weights, bundle, change, message):
    flat = {".".join(path): value for path, value in weights[1].items()}
    change(flat)
    specs = {name: (value.dtype, value.shape) for name, value in flat.items()}
    write_safetensors(bundle / TENSORS, specs, flat.__getitem__)
    with pytest.raises(UserError, match=message):
        load_trained(bundle)


def test_a_damaged_recipe_is_named(bundle):
    (bundle / RECIPE).write_text('{"model": 3}')
    with pytest.raises(UserError, match=r"recipe\.json is not the recipe of a trained model"):
        load_trained(bundle)


def test_a_recipe_without_sizes_is_named(bundle):
    (bundle / RECIPE).write_text('{"model": {"preset": "nano"}}')
    with pytest.raises(UserError, match=r"recipe\.json: model: missing key 'hidden_size'"):
        load_trained(bundle)


def test_weights_without_a_recipe_do_not_go_into_a_bundle(omnigen_folder, tmp_path):
    source = tmp_path / "omnigen"
    omnigen_folder.write(source)
    with pytest.raises(UserError, match="a model on pixels that was trained here"):
        convert(source, tmp_path / "bundle", to="bundle")
    assert not (tmp_path / "bundle").exists()
