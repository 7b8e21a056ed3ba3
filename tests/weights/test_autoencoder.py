"""Folders of diffusers' `AutoencoderKL`."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from ditfuse_jax.errors import UserError
from ditfuse_jax.weights.autoencoder import autoencoder_tensors, load_autoencoder

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(official, tmp_path):
    shutil.copytree(official.folder / "vae", tmp_path / "vae")
    (tmp_path / "vae" / "golden.safetensors").unlink()
    return tmp_path / "vae"


@pytest.fixture
def changed(folder):
    """Rewrites the tensors of the folder."""

    def change(edit):
        tensors = load_file(folder / FILE)
        save_file(edit(tensors), folder / FILE)
        return folder

    return change


def test_tensors_come_back_bit_for_bit(folder):
    found = autoencoder_tensors(load_autoencoder(folder).parameters)
    expected = load_file(folder / FILE)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_names_of_old_attention_are_read_too(folder, changed):
    new = load_autoencoder(folder).parameters
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors):
        for ours, theirs in old.items():
            for name in [n for n in tensors if f".{ours}." in n]:
                value = tensors.pop(name)
                if name.endswith("weight"):  # they were convolutions once
                    value = value[:, :, None, None]
                tensors[name.replace(f".{ours}.", f".{theirs}.")] = value
        return tensors

    jax.tree.map(np.testing.assert_array_equal, load_autoencoder(changed(rename)).parameters, new)


def test_half_precision_files_become_float32(changed):
    folder = changed(lambda tensors: {n: x.astype(np.float16) for n, x in tensors.items()})
    loaded = load_autoencoder(folder)
    assert {x.dtype for x in jax.tree.leaves(loaded.parameters)} == {np.dtype(np.float32)}


def test_a_missing_tensor_is_named(changed):
    folder = changed(lambda t: {n: x for n, x in t.items() if n != "decoder.conv_in.bias"})
    with pytest.raises(UserError, match=r"lacks tensor decoder\.conv_in\.bias of shape"):
        load_autoencoder(folder)


def test_an_unknown_tensor_is_named(changed):
    folder = changed(lambda tensors: tensors | {"decoder.extra": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match=r"unknown tensor decoder\.extra of shape \(3,\)"):
        load_autoencoder(folder)


def test_a_tensor_of_another_shape_is_named_with_both(changed):
    def cut(tensors):
        tensors["decoder.conv_in.bias"] = tensors["decoder.conv_in.bias"][:5]
        return tensors

    with pytest.raises(UserError, match=r"decoder\.conv_in\.bias has shape \(5,\), .* \(32,\)"):
        load_autoencoder(changed(cut))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no autoencoder at .*none"):
        load_autoencoder(tmp_path / "none")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "gelu"),
        ("down_block_types", ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
        ("latents_mean", [0.0] * 4),
        ("mid_block_add_attention", False),
        ("_class_name", "AutoencoderTiny"),
        ("block_out_channels", [32, 0]),
        ("layers_per_block", "2"),
        ("scaling_factor", float("nan")),
        ("use_quant_conv", 1),
        ("a_setting_of_the_future", 3),
    ],
)
def test_unsupported_settings_are_refused(folder, key, value):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=r"config\.json"):
        load_autoencoder(folder)


@pytest.mark.parity
def test_diffusers_own_autoencoder_gives_the_same_on_an_image_that_is_not_square(tmp_path):
    torch = pytest.importorskip("torch", reason="parity with diffusers needs torch")
    diffusers = pytest.importorskip("diffusers", reason="parity with diffusers needs it")
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=3,
        scaling_factor=0.5,
    ).eval()
    theirs.save_pretrained(tmp_path)
    loaded = load_autoencoder(tmp_path)
    assert loaded.config.scaling_factor == 0.5
    image = torch.rand(2, 3, 40, 24) * 2 - 1
    latents = torch.randn(2, 3, 10, 6)
    with torch.no_grad():
        posterior = theirs.encode(image).latent_dist
        decoded = theirs.decode(latents).sample
    with jax.default_matmul_precision("highest"):
        module = nnx.merge(loaded.graph, loaded.parameters)
        ours = module.encode(np.moveaxis(image.numpy(), 1, -1))
        pixels = module.decode(np.moveaxis(latents.numpy(), 1, -1))
    for found, expected in (
        (ours.mean, posterior.mean),
        (ours.log_variance, posterior.logvar),
        (pixels, decoded),
    ):
        expected = np.moveaxis(expected.numpy(), 1, -1)
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
