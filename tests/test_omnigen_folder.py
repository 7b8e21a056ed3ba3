"""The random folders that stand in for OmniGen's download are like it in everything but size."""

import json
import math
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from ditfuse_jax.prompts import TextSlots, encode_prompt, load_tokenizer, task_prompt
from ditfuse_jax.weights import load_autoencoder, open_omnigen
from ditfuse_jax.weights.omnigen import parameters_from_original

pytestmark = pytest.mark.medium

GOLDEN = "golden/official_tiny"


@pytest.fixture(scope="module")
def folder(omnigen_folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("download") / "OmniGen"
    omnigen_folder.write(made, hidden=32, layers=2, heads=4, kv_heads=2, mlp=48)
    return made


def golden(request, name):
    return request.path.parent / GOLDEN / name


def shapes(path):
    return {name: tensor.shape for name, tensor in load_file(path).items()}


def test_the_folder_holds_the_files_of_the_download(folder):
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        *("config.json", "model.safetensors", "vae/config.json"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_tensors_have_the_original_s_names_and_shapes(omnigen_folder, request):
    config = json.loads(golden(request, "config.json").read_text())
    expected = shapes(golden(request, "model.safetensors"))
    assert omnigen_folder.tensor_shapes(config, positions=64) == expected


def test_the_autoencoder_has_diffusers_names(folder, request):
    names, expected = (
        # Where the widths change there is a shortcut; it stands elsewhere in other widths.
        {name for name in shapes(path) if "conv_shortcut" not in name}
        for path in (
            folder / "vae" / "diffusion_pytorch_model.safetensors",
            golden(request, "vae/diffusion_pytorch_model.safetensors"),
        )
    )
    assert names == expected


def test_the_position_table_is_the_original_s(omnigen_folder, request):
    expected = load_file(golden(request, "model.safetensors"))["pos_embed"]
    table = omnigen_folder.positions_table(expected.shape[-1], 64)
    np.testing.assert_allclose(table, expected, atol=1e-5)


def test_the_full_shape_has_3_8_billion_parameters(omnigen_folder):
    sizes = omnigen_folder.tensor_shapes(omnigen_folder.phi3(3072, 32, 32, 32, 8192, 32064))
    del sizes["pos_embed"]
    assert sum(map(math.prod, sizes.values())) == pytest.approx(3.8e9, rel=0.02)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_precision_and_every_number_of_files_loads(omnigen_folder, tmp_path, dtype, shards):
    made = tmp_path / "OmniGen"
    omnigen_folder.write(
        made, hidden=32, layers=1, heads=2, kv_heads=1, mlp=48, dtype=dtype, shards=shards
    )
    opened = open_omnigen(made)
    assert (opened.config.num_heads, opened.config.num_kv_heads) == (2, 1)
    embedded = parameters_from_original(opened.tensors, opened.config)["embed_tokens"]
    assert np.isfinite(embedded.astype("f4")).all()
    assert np.ptp(embedded.astype("f4")) > 0


def test_the_autoencoder_loads(folder):
    assert load_autoencoder(folder / "vae").config.downsampling == 8


def test_every_token_has_a_row_in_the_embedding(folder):
    tokenizer, config = load_tokenizer(folder), open_omnigen(folder).config
    encoded = encode_prompt(tokenizer, task_prompt("SEG", None, "天"), 2, TextSlots(200, 200, 200))
    assert encoded.tokens[0] == tokenizer.bos_token_id == 1
    assert encoded.tokens.max() < len(tokenizer) <= config.vocab_size
    assert config.vocab_size % 64 == 0


def test_the_script_writes_the_requested_model(omnigen_folder, tmp_path, monkeypatch):
    words = "--hidden 48 --layers 3 --heads 2 --kv-heads 1 --mlp 64 --dtype bfloat16 --shards 2"
    monkeypatch.setattr(sys, "argv", ["omnigen_folder.py", str(tmp_path / "made"), *words.split()])
    omnigen_folder.main()
    config = open_omnigen(tmp_path / "made").config
    assert (config.hidden_size, config.num_layers, config.intermediate_size) == (48, 3, 64)
    assert len(list((tmp_path / "made").glob("model-*.safetensors"))) == 2
