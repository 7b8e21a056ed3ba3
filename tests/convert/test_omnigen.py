"""Original checkpoints: every tensor by name, and what it computes."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.convert.omnigen import config_from_phi3, parameters_from_original
from ditfuse_jax.errors import UserError
from ditfuse_jax.model import ModelConfig


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


def test_every_number_lands_in_exactly_one_place(config):
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
def test_fronts_are_the_original_s_convolutions(config, tensors, parameters, front):
    patch = np.random.default_rng(1).standard_normal((config.channels, 2, 2)).astype("f4")
    convolved = np.einsum("oihw,ihw->o", tensors[f"{front}.proj.weight"], patch)
    ours = np.einsum("hwi,hwio->o", patch.transpose(1, 2, 0), parameters[front]["kernel"])
    np.testing.assert_allclose(ours, convolved, atol=1e-4)


def test_a_missing_tensor_is_named_with_its_shape(config, tensors):
    del tensors["llm.layers.1.mlp.down_proj.weight"]
    with pytest.raises(UserError, match=r"llm\.layers\.1\.mlp\.down_proj\.weight .*\(32, 48\)"):
        parameters_from_original(tensors, config)


def test_an_unknown_tensor_is_named(config, tensors):
    tensors["llm.layers.2.mlp.down_proj.weight"] = tensors["llm.layers.1.mlp.down_proj.weight"]
    with pytest.raises(UserError, match=r"1 unknown .*llm\.layers\.2\.mlp\.down_proj\.weight"):
        parameters_from_original(tensors, config)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(config, tensors):
    tensors["llm.norm.weight"] = np.zeros(31, "f4")
    with pytest.raises(UserError, match=r"llm\.norm\.weight .*\(31,\).*\(32,\)"):
        parameters_from_original(tensors, config)


def test_the_phi3_config_is_read_whole(official):
    raw = json.loads((official.FOLDER / "config.json").read_text())
    config = config_from_phi3(official.FOLDER / "config.json", text_slots=(4, 2, 6))
    assert config.text_slots == (4, 2, 6)
    assert config.preset == "omnigen"
    assert (config.hidden_size, config.intermediate_size) == (96, 160)
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (3, 4, 4)
    assert (config.vocab_size, config.rms_norm_eps, config.rope_theta) == (200, 1e-5, 10000.0)
    assert (config.original_max_position, config.max_position) == (4096, 131072)
    assert list(config.rope_short_factor) == raw["rope_scaling"]["short_factor"]
    assert list(config.rope_long_factor) == raw["rope_scaling"]["long_factor"]


def test_a_missing_config_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the model config .*nowhere\.json"):
        config_from_phi3(tmp_path / "nowhere.json")


@pytest.mark.parametrize("text", ["{", '{"hidden_size": 96}', "[1, 2]"])
def test_a_file_that_is_no_phi3_config_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"config\.json is not a Phi-3 config"):
        config_from_phi3(path)


def test_a_rope_scaling_other_than_longrope_is_refused(official, tmp_path):
    """Ignoring it would give a model that runs and is wrong."""
    raw = json.loads((official.FOLDER / "config.json").read_text())
    raw["rope_scaling"] = {"type": "yarn", "factor": 4.0}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"config\.json.*yarn"):
        config_from_phi3(path)
