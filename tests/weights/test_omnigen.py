"""Original checkpoints: every tensor by name, and what it computes."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.weights.maps import leaves
from ditfuse_jax.weights.omnigen import (
    check_tensors,
    config_from_phi3,
    parameters_from_original,
    phi3_config,
)
from ditfuse_jax.weights.tensors import open_tensors


def original_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the original's tensors, linear weights as (out, in)."""
    width, inner, patch = config.hidden_size, config.intermediate_size, config.patch_size
    heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
    shapes = {
        "llm.embed_tokens.weight": (config.vocab_size, width),
        "llm.norm.weight": (width,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
        "final_layer.linear.weight": (patch * patch * config.channels, width),
        "final_layer.linear.bias": (patch * patch * config.channels,),
        "pos_embed": (1, config.pos_embed_max_size**2, width),
    }
    for front in ("x_embedder", "input_x_embedder"):
        shapes[f"{front}.proj.weight"] = (width, config.channels, patch, patch)
        shapes[f"{front}.proj.bias"] = (width,)
    for mlp in ("time_token", "t_embedder"):
        shapes[f"{mlp}.mlp.0.weight"] = (width, 256)
        shapes[f"{mlp}.mlp.2.weight"] = (width, width)
        shapes[f"{mlp}.mlp.0.bias"] = shapes[f"{mlp}.mlp.2.bias"] = (width,)
    for index in range(config.num_layers):
        layer = f"llm.layers.{index}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.post_attention_layernorm.weight": (width,),
            f"{layer}.self_attn.qkv_proj.weight": ((heads + 2 * kv_heads) * dim, width),
            f"{layer}.self_attn.o_proj.weight": (width, heads * dim),
            f"{layer}.mlp.gate_up_proj.weight": (2 * inner, width),
            f"{layer}.mlp.down_proj.weight": (width, inner),
        }
    return shapes


@pytest.fixture(scope="module")
def config(models):
    """Grouped-query attention, which the official numbers do not have."""
    return dataclasses.replace(models.LATENT, pos_embed_max_size=8)


@pytest.fixture
def tensors(config):
    random = np.random.default_rng(0)
    return {
        name: random.standard_normal(shape).astype("f4")
        for name, shape in original_shapes(config).items()
    }


@pytest.fixture
def parameters(tensors, config):
    return parameters_from_original(tensors, config)


def test_the_parameters_are_those_of_the_model(models, config, parameters):
    expected = nnx.to_pure_dict(models.graph(config)[1])
    assert jax.tree.map(np.shape, parameters) == jax.tree.map(lambda x: x.shape, expected)


def test_every_number_is_used_exactly_once(config):
    sizes = {name: int(np.prod(shape)) for name, shape in original_shapes(config).items()}
    del sizes["pos_embed"]  # computed, not learnt
    stops = np.cumsum(list(sizes.values()))
    numbered = {
        name: np.arange(stop - sizes[name], stop).reshape(original_shapes(config)[name])
        for name, stop in zip(sizes, stops, strict=True)
    }
    leaves = jax.tree.leaves(parameters_from_original(numbered, config))
    found = np.sort(np.concatenate([leaf.ravel() for leaf in leaves]))
    np.testing.assert_array_equal(found, np.arange(stops[-1]))


def test_layers_are_stacked_in_order(config, tensors, parameters):
    stacked = parameters["transformer"]["layers"]["mlp"]["down_proj"]["kernel"]
    for index in range(config.num_layers):
        expected = tensors[f"llm.layers.{index}.mlp.down_proj.weight"].T
        np.testing.assert_array_equal(stacked[index], expected)


def test_fused_projections_give_each_key_head_its_own_queries(config, tensors, parameters):
    x = np.random.default_rng(1).standard_normal(config.hidden_size).astype("f4")
    heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
    fused = tensors["llm.layers.1.self_attn.qkv_proj.weight"] @ x
    q, k, v = np.split(fused.reshape(-1, dim), [heads, heads + kv_heads])
    kernel = parameters["transformer"]["layers"]["self_attn"]["qkv_proj"]["kernel"][1]
    ours = np.tensordot(x, kernel, 1)
    for head in range(heads):
        # Phi-3 repeats key heads: query head h reads key head h // group.
        group = heads // kv_heads
        np.testing.assert_allclose(ours[head // group, head % group], q[head], atol=1e-4)
    np.testing.assert_allclose(ours[:, -2], k, atol=1e-4)
    np.testing.assert_allclose(ours[:, -1], v, atol=1e-4)


def test_the_fused_mlp_has_its_gate_first(config, tensors, parameters):
    x = np.random.default_rng(1).standard_normal(config.hidden_size).astype("f4")
    gate, up = np.split(tensors["llm.layers.0.mlp.gate_up_proj.weight"] @ x, 2)
    kernel = parameters["transformer"]["layers"]["mlp"]["gate_up_proj"]["kernel"][0]
    np.testing.assert_allclose(np.tensordot(x, kernel, 1), [gate, up], atol=1e-4)


@pytest.mark.parametrize("front", ["x_embedder", "input_x_embedder"])
def test_patch_embedders_compute_the_original_s_convolutions(config, tensors, parameters, front):
    patch = np.random.default_rng(1).standard_normal((config.channels, 2, 2)).astype("f4")
    convolved = np.einsum("oihw,ihw->o", tensors[f"{front}.proj.weight"], patch)
    ours = np.einsum("hwi,hwio->o", patch.transpose(1, 2, 0), parameters[front]["kernel"])
    np.testing.assert_allclose(ours, convolved, atol=1e-4)


@pytest.fixture
def saved(tmp_path):
    """Writes tensors to a file and opens it."""

    def save(tensors):
        save_file(tensors, tmp_path / "model.safetensors")
        return open_tensors(tmp_path / "model.safetensors")

    return save


def test_a_missing_tensor_is_named_with_its_shape(config, tensors, saved):
    del tensors["llm.layers.1.mlp.down_proj.weight"]
    message = r"lacks tensor llm\.layers\.1\.mlp\.down_proj\.weight: .*expected \(32, 48\)"
    with pytest.raises(UserError, match=message):
        check_tensors(saved(tensors), config)


def test_an_unknown_tensor_is_named(config, tensors, saved):
    tensors["llm.layers.2.mlp.down_proj.weight"] = tensors["llm.layers.1.mlp.down_proj.weight"]
    message = r"unknown tensor llm\.layers\.2\.mlp\.down_proj\.weight: found \(32, 48\)"
    with pytest.raises(UserError, match=message):
        check_tensors(saved(tensors), config)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(config, tensors, saved):
    tensors["llm.norm.weight"] = np.zeros(31, "f4")
    with pytest.raises(UserError, match=r"llm\.norm\.weight: found \(31,\), expected \(32,\)"):
        check_tensors(saved(tensors), config)


def test_another_vocabulary_size_is_named_with_that_of_the_config(config, tensors, saved):
    tensors["llm.embed_tokens.weight"] = tensors["llm.embed_tokens.weight"][:-3]
    with pytest.raises(UserError, match=r"embed_tokens\.weight: .*vocab_size is 64"):
        check_tensors(saved(tensors), config)


def test_every_tensor_comes_back_bit_for_bit(config, tensors, parameters):
    for path, leaf in leaves(config).items():
        value = parameters
        for key in path:
            value = value[key]
        for number, tensor in enumerate(leaf.tensors):
            back = leaf.to_original(value[number] if leaf.stacked else value)
            np.testing.assert_array_equal(back, tensors[tensor.name])


@settings(max_examples=60)
@given(st.data())
def test_reading_a_part_equals_slicing_the_whole(data):
    config = ModelConfig(
        preset="x",
        hidden_size=16,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=12,
        vocab_size=8,
        text_slots=(1, 1, 1),
        pos_embed_max_size=2,
    )
    random = np.random.default_rng(0)
    tensors = {n: random.standard_normal(s) for n, s in original_shapes(config).items()}
    leaf = data.draw(st.sampled_from(list(leaves(config).values())))
    index = []
    for size in leaf.shape:
        start = data.draw(st.integers(0, size - 1))
        stop = data.draw(st.one_of(st.none(), st.integers(start + 1, size)))
        index.append(slice(start or None, stop))
    np.testing.assert_array_equal(
        leaf.read(tensors, tuple(index)), leaf.read(tensors)[tuple(index)]
    )


def test_a_written_phi3_config_reads_back_the_same(official, tmp_path):
    config = official.config()
    (tmp_path / "config.json").write_text(json.dumps(phi3_config(config)))
    again = config_from_phi3(
        tmp_path / "config.json",
        text_slots=config.text_slots,
        pos_embed_max_size=config.pos_embed_max_size,
    )
    assert again == config


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "gelu"), ("partial_rotary_factor", 0.5)])
def test_unsupported_settings_are_refused(official, tmp_path, key, value):
    raw = json.loads((official.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {key: value}))
    with pytest.raises(UserError, match=f"{key} .* is not supported"):
        config_from_phi3(tmp_path / "config.json")


def test_the_phi3_config_is_read_whole(official):
    raw = json.loads((official.folder / "config.json").read_text())
    config = config_from_phi3(official.folder / "config.json", text_slots=(4, 2, 6))
    assert config.text_slots == (4, 2, 6)
    assert config.preset == "omnigen"
    assert (config.hidden_size, config.intermediate_size) == (96, 160)
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (3, 4, 4)
    assert (config.vocab_size, config.rms_norm_eps, config.rope_theta) == (200, 1e-5, 10000.0)
    assert (config.original_max_position, config.max_position) == (4096, 131072)
    assert list(config.rope_short_factor) == raw["rope_scaling"]["short_factor"]
    assert list(config.rope_long_factor) == raw["rope_scaling"]["long_factor"]


def test_a_missing_config_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the config .*nowhere\.json"):
        config_from_phi3(tmp_path / "nowhere.json")


@pytest.mark.parametrize("text", ["{", '{"hidden_size": 96}', "[1, 2]"])
def test_a_file_that_is_not_a_phi3_config_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"config\.json is not"):
        config_from_phi3(path)


def test_a_rope_scaling_other_than_longrope_is_refused(official, tmp_path):
    """Ignoring it would give a model that runs and is wrong."""
    raw = json.loads((official.folder / "config.json").read_text())
    raw["rope_scaling"] = {"type": "yarn", "factor": 4.0}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"config\.json.*yarn"):
        config_from_phi3(path)


def test_sizes_that_are_no_numbers_are_refused_by_file_and_name(config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(phi3_config(config) | {"hidden_size": "wide"}))
    with pytest.raises(UserError, match=r"config\.json: model\.hidden_size must be a whole number"):
        config_from_phi3(path)
