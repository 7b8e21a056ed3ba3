"""Models that are quantised when they are loaded, or stored quantised."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ditfuse_jax.convert.convert import convert
from ditfuse_jax.convert.write_bundle import write_bundle
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.lora import LoRAConfig, merge_lora
from ditfuse_jax.model.quantization import (
    QUANTIZATIONS,
    QUANTIZED_LAYERS,
    QuantizedMatrix,
    quantize_layers,
)
from ditfuse_jax.sample.trained import WeightedAdapter, load_trained
from ditfuse_jax.train.recipe import default_config
from ditfuse_jax.weights import Checkpoint, open_checkpoint, write_adapter
from ditfuse_jax.weights.adapters import InMemory
from ditfuse_jax.weights.bundle import RECIPE, TENSORS
from ditfuse_jax.weights.peft import Adapter
from ditfuse_jax.weights.quantized import num_parameters
from ditfuse_jax.weights.tensors import open_tensors

pytestmark = pytest.mark.medium

LORA = LoRAConfig(2, 2.0, ("qkv_proj",))


@pytest.fixture(scope="module")
def model(models):
    # The embedding must have a row for every token.
    return dataclasses.replace(models.PIXEL, preset="nano", vocab_size=2048)


@pytest.fixture(scope="module")
def parameters(models, model):
    return models.parameters(model)


@pytest.fixture(scope="module")
def bundle(model, parameters, tmp_path_factory):
    config = default_config("nano")
    config.model = ConfigDict(model.to_dict())
    path = Path("/nowhere/run")
    reader = InMemory(parameters, path)
    folder = tmp_path_factory.mktemp("plain") / "bundle"
    checkpoint = Checkpoint("run", "run", path, model, reader, config=config.to_dict())
    write_bundle(checkpoint, folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def factors(model):
    random = np.random.default_rng(5)
    heads, width, dim = model.num_heads, model.hidden_size, model.head_dim
    shapes = {"lora_a": (2, width, 2), "lora_b": (2, 2, heads, 3, dim)}
    leaves = {n: 0.3 * random.standard_normal(s).astype("f4") for n, s in shapes.items()}
    return {"transformer": {"layers": {"self_attn": {"qkv_proj": leaves}}}}


@pytest.fixture(scope="module")
def adapter(model, factors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    write_adapter(folder, Adapter(LORA, factors, None), model)
    return folder


def kernels(parameters):
    """Yields the parameters of every quantised layer, and the arrangement of its kernel."""
    for path, shape in QUANTIZED_LAYERS.items():
        owner = parameters
        for name in path:
            owner = owner[name]
        yield owner, shape


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", ["int8", "nf4"])
def test_loading_quantises_the_kernels_of_all_layers_and_nothing_else(bundle, parameters, name):
    trained = load_trained(bundle, quantize=name)
    assert trained.name == f"bundle, {name}"
    for (stored, shape), (plain, _) in zip(
        kernels(trained.parameters), kernels(parameters), strict=True
    ):
        expected = quantize_layers(jnp.asarray(plain["kernel"]), name, shape)
        assert set(stored) == {"codes", "scales"}
        np.testing.assert_array_equal(stored["codes"], expected.codes)
        np.testing.assert_array_equal(stored["scales"], expected.scales)
    np.testing.assert_array_equal(trained.parameters["embed_tokens"], parameters["embed_tokens"])


@pytest.mark.parametrize("to", ["run", "bundle"])
@pytest.mark.parametrize("name", ["int8", "nf4"])
def test_a_model_that_was_stored_quantised_is_the_one_quantised_on_loading(
    bundle, tmp_path, name, to
):
    written = convert(bundle, tmp_path / "quantised", to=to, quantize=name, quiet=True)
    again = load_trained(written)
    assert again.name.endswith(f", {name}")
    assert_same(again.parameters, load_trained(bundle, quantize=name).parameters)
    assert_same(again.parameters, load_trained(written, quantize=name).parameters)


def test_a_bundle_in_nf4_takes_little_more_than_half_a_byte_for_a_weight(bundle, tmp_path):
    written = convert(bundle, tmp_path / "nf4", to="bundle", quantize="nf4", quiet=True)
    tensors, plain = open_tensors(written / TENSORS), open_tensors(bundle / TENSORS)

    def size(opened, of):
        names = [n for n in opened.names if n.startswith("transformer.layers") and "_proj" in n]
        return sum(of(opened, name) for name in names)

    stored = size(tensors, lambda t, n: t.read(n).nbytes)
    weights = size(plain, lambda t, n: t.read(n).size)
    assert 0.5 * weights < stored < 0.7 * weights  # blocks of this model are short
    assert json.loads((written / RECIPE).read_text())["quantized"] == "nf4"


def test_an_adapter_is_merged_before_the_weights_are_quantised(
    bundle, adapter, parameters, factors, tmp_path
):
    trained = load_trained(bundle, [WeightedAdapter(adapter, 0.5)], quantize="int8")
    merged = merge_lora(parameters, factors, 0.5 * LORA.scaling)
    stored, _ = next(kernels(trained.parameters))
    plain, shape = next(kernels(merged))
    back = QUANTIZATIONS["int8"].dequantize(QuantizedMatrix(**stored))
    differences = np.asarray(back) - shape.matrices(jnp.asarray(plain["kernel"]))
    steps = np.abs(differences) / np.asarray(stored["scales"])[:, None]
    assert steps.max() < 0.51
    written = convert(
        bundle,
        tmp_path / "merged",
        adapters=[WeightedAdapter(adapter, 0.5)],
        quantize="int8",
        quiet=True,
    )
    assert_same(load_trained(written).parameters, trained.parameters)


@pytest.fixture(scope="module")
def quantised(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised") / "nf4"
    return convert(bundle, folder, to="bundle", quantize="nf4", quiet=True)


def test_merging_into_stored_quantised_weights_is_refused(quantised, adapter, tmp_path):
    message = r"quantised as nf4.*merge the adapter into the original weights"
    with pytest.raises(UserError, match=message):
        load_trained(quantised, [WeightedAdapter(adapter)])
    with pytest.raises(UserError, match=message):
        convert(quantised, tmp_path / "out", adapters=[WeightedAdapter(adapter)], quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int8"}, "quantise the original weights as int8"),
        ({"dtype": "bfloat16"}, "convert the original weights"),
        ({"to": "omnigen"}, "cannot hold kernels quantised as nf4: choose --to run or bundle"),
        ({"to": "onnx"}, "cannot hold kernels quantised as nf4: choose --to run or bundle"),
        ({"quantize": "int3"}, "int8, nf4"),
    ],
)
def test_stored_quantised_weights_are_not_changed_any_more(quantised, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        convert(quantised, tmp_path / "out", quiet=True, **options)
    assert not (tmp_path / "out").exists()


def test_quantising_twice_in_different_ways_is_refused_on_loading(quantised):
    with pytest.raises(UserError, match=r"nf4.*quantise the original weights as int8"):
        load_trained(quantised, quantize="int8")


@pytest.mark.parametrize("name", ["int8", "nf4"])
def test_the_card_says_how_kernels_are_quantised_and_counts_the_weights_they_stand_for(
    bundle, parameters, tmp_path, name
):
    count = sum(x.size for x in jax.tree.leaves(parameters))
    written = convert(
        bundle, tmp_path / name, to="bundle", quantize=name, push="hf://me/small", quiet=True
    )
    again = convert(written, tmp_path / "again", to="bundle", push="hf://me/small", quiet=True)
    for folder, row in (
        (written, f"| converted | kernels in {name} |"),
        (again, f"| kernels | {name} |"),
    ):
        card = (folder / "README.md").read_text()
        assert f"| parameters | {count / 1e6:.1f} M |" in card
        assert row in card
    checkpoint = open_checkpoint(written)
    assert checkpoint.quantized == name
    assert num_parameters(checkpoint) == count
