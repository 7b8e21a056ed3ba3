"""diffusers' port of OmniGen, read under the original's names."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ditfuse_jax.errors import UserError
from ditfuse_jax.weights import open_omnigen
from ditfuse_jax.weights.diffusers import diffusers_names

pytestmark = pytest.mark.medium


@pytest.fixture
def original(omnigen_folder, tmp_path):
    omnigen_folder.write(
        tmp_path / "original", hidden=32, layers=2, heads=4, kv_heads=2, mlp=24, positions=8
    )
    return tmp_path / "original"


@pytest.fixture
def port(original, tmp_path):
    """The same weights as a pipeline of diffusers has them."""
    folder = tmp_path / "pipeline" / "transformer"
    folder.mkdir(parents=True)
    raw = json.loads((original / "config.json").read_text())
    config = {
        "_class_name": "OmniGenTransformer2DModel",
        "hidden_size": raw["hidden_size"],
        "num_layers": raw["num_hidden_layers"],
        "num_attention_heads": raw["num_attention_heads"],
        "num_key_value_heads": raw["num_key_value_heads"],
        "intermediate_size": raw["intermediate_size"],
        "vocab_size": raw["vocab_size"],
        "in_channels": 4,
        "patch_size": 2,
        "pos_embed_max_size": 8,
        "rms_norm_eps": raw["rms_norm_eps"],
        "rope_base": 10000,
        "rope_scaling": raw["rope_scaling"],
        "max_position_embeddings": raw["max_position_embeddings"],
        "original_max_position_embeddings": raw["original_max_position_embeddings"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    heads, kv_heads, dim = 4, 2, 8
    tensors = {}
    for name, value in load_file(original / "model.safetensors").items():
        names = diffusers_names(name) if name != "pos_embed" else ("patch_embedding.pos_embed",)
        cuts = [heads * dim, (heads + kv_heads) * dim] if len(names) == 3 else []
        parts = np.split(value, cuts)
        tensors |= {n: np.ascontiguousarray(x) for n, x in zip(names, parts, strict=True)}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return tmp_path / "pipeline"


@pytest.mark.parametrize("inner", [".", "transformer"])
def test_the_port_holds_the_same_weights_and_the_same_config(original, port, inner):
    first, second = open_omnigen(original), open_omnigen(port / inner)
    assert first.config == second.config
    assert first.tensors.names == second.tensors.names
    for name in first.tensors.names:
        assert first.tensors.shape(name) == second.tensors.shape(name)
        np.testing.assert_array_equal(first.tensors.read(name), second.tensors.read(name))
        rows = slice(1, 3)
        if len(first.tensors.shape(name)) == 2:
            np.testing.assert_array_equal(
                first.tensors.read(name, rows), second.tensors.read(name, rows)
            )


def test_the_parts_of_a_pipeline_are_found(original, port):
    (port / "vae").mkdir()
    (port / "vae" / "config.json").write_text("{}")
    (port / "tokenizer").mkdir()
    (port / "tokenizer" / "tokenizer.json").write_text("{}")
    opened = open_omnigen(port)
    assert (opened.autoencoder, opened.tokenizer) == (port / "vae", port / "tokenizer")
    opened = open_omnigen(original)
    assert (opened.autoencoder, opened.tokenizer) == (original / "vae", original)


def test_a_missing_part_of_a_joined_tensor_is_named(port):
    path = port / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["layers.1.self_attn.to_k.weight"]
    save_file(tensors, path)
    with pytest.raises(
        UserError, match=r"lacks tensor llm\.layers\.1\.self_attn\.qkv_proj\.weight"
    ):
        open_omnigen(port)


def test_another_class_is_refused(port):
    (port / "transformer" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(UserError, match="'UNet2DModel', not of OmniGenTransformer2DModel"):
        open_omnigen(port)


@pytest.mark.parity
@pytest.mark.parametrize("shard", ["10GB", "100KB"])
def test_the_library_saves_the_names_that_are_read(tmp_path, shard):
    torch = pytest.importorskip("torch", reason="parity with diffusers needs torch")
    diffusers = pytest.importorskip("diffusers", reason="parity with diffusers needs it")
    torch.manual_seed(0)
    factors = [1.0 + i for i in range(4)]
    model = diffusers.OmniGenTransformer2DModel(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        num_layers=2,
        pad_token_id=0,
        vocab_size=64,
        rope_scaling={"type": "su", "short_factor": factors, "long_factor": factors},
        pos_embed_max_size=16,
    )
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard == "100KB"
    opened = open_omnigen(tmp_path)
    assert opened.config.rope_short_factor == tuple(factors)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    attention = "layers.1.self_attn"
    joined = np.concatenate([state[f"{attention}.to_{part}.weight"] for part in "qkv"])
    np.testing.assert_array_equal(
        opened.tensors.read("llm.layers.1.self_attn.qkv_proj.weight"), joined
    )
    np.testing.assert_array_equal(
        opened.tensors.read("final_layer.adaLN_modulation.1.weight"),
        state["norm_out.linear.weight"],
    )
