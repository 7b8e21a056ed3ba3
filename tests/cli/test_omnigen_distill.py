"""A few-step adapter of OmniGen on the command line: convert, distil, export, fuse."""

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image, read_metadata
from ditfuse_jax.weights import open_adapter, open_checkpoint

pytestmark = pytest.mark.medium

TINY = (
    "--config.data.crop=(32, 32)",
    "--config.data.batch_size=2",
    "--config.data.workers=0",
    "--config.model.dtype=float32",
    "--config.model.remat=none",
    "--config.lora.rank=2",
    "--config.lora.alpha=4.0",
    "--config.optimizer.learning_rate=0.01",
    "--config.optimizer.warmup_steps=1",
    "--config.train.steps=2",
    "--config.evaluations.held_out.count=1",
)


def run(*options) -> None:
    """Runs a command that has to succeed."""
    assert main([str(word) for word in options]) == 0


@pytest.fixture(scope="module")
def folders(omnigen_folder, tmp_path_factory):
    """Weights as downloaded, converted; a run of two steps; its adapter as a PEFT folder."""
    root = tmp_path_factory.mktemp("few")
    omnigen_folder.write(root / "OmniGen", hidden=32, layers=1, heads=4, kv_heads=2, mlp=48)
    run("convert", root / "OmniGen", "-o", root / "weights")
    options = ("--config", "omnigen_distill", "--workdir", root / "student")
    run("distill", root / "weights", *options, *TINY)
    run("convert", root / "student", "-o", root / "adapter")
    return root


@pytest.fixture
def fused(pair, tmp_path):
    """Fuses the pair; returns the image and its metadata."""

    def fuse(*options):
        output = tmp_path / f"fused-{len(list(tmp_path.iterdir()))}.png"
        run("fuse", *pair, "-o", output, *options)
        return read_image(output).astype(int), read_metadata(output)

    return fuse


def test_the_exported_adapter_is_used_with_its_four_steps_and_without_guidance(folders, fused):
    config = json.loads((folders / "adapter" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    with safe_open(folders / "adapter" / "adapter_model.safetensors", "np") as tensors:
        assert json.loads(tensors.metadata()["distilled"])["sample"]["steps"] == 4
    original = ("--checkpoint", folders / "OmniGen", "--lora", folders / "adapter")
    image, facts = fused(*original)
    assert (facts["steps"], facts["guidance_scale"]) == ("4", "1.0")
    assert facts["image_guidance_scale"] == "1.0"
    by_hand, _ = fused(*original, "--steps", 4, "--guidance-scale", 1, "--image-guidance-scale", 1)
    np.testing.assert_array_equal(image, by_hand)
    of_run, facts = fused("--checkpoint", folders / "student")
    assert facts["steps"] == "4"
    assert np.abs(image - of_run).max() <= 4  # bfloat16: merged, and beside the weights


def test_what_the_user_asks_for_wins(folders, fused):
    original = ("--checkpoint", folders / "OmniGen", "--lora", folders / "adapter")
    _, facts = fused(*original, "--steps", 2)
    assert facts["steps"] == "2"


def test_merged_weights_and_another_run_keep_the_steps(folders, tmp_path):
    adapter = folders / "adapter"
    run("convert", folders / "weights", "--lora", adapter, "-o", tmp_path / "merged")
    assert open_checkpoint(tmp_path / "merged").sampling.steps == 4
    options = ("--lora", adapter, "--to", "omnigen", "-o", tmp_path / "original")
    run("convert", folders / "weights", *options)
    assert open_checkpoint(tmp_path / "original").sampling.guidance.branches == ("cond",)
    assert open_checkpoint(tmp_path / "original").sampling.steps == 4
    run("convert", adapter, "--base", folders / "weights", "-o", tmp_path / "run")
    assert open_checkpoint(tmp_path / "run").sampling.steps == 4
    model = open_checkpoint(folders / "weights").model
    first, again = (open_adapter(path, model).distilled for path in (adapter, tmp_path / "run"))
    assert first == again
    assert first and first["loss"] == "student_trajectory"


@pytest.mark.parametrize("damaged", [5, ["steps"], {"stepz": 4}, {"steps": "four"}])
def test_damaged_sampling_settings_beside_weights_are_refused(folders, tmp_path, damaged):
    weights = tmp_path / "OmniGen"
    shutil.copytree(folders / "OmniGen", weights)
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps(config | {"sampling": damaged}))
    with pytest.raises(UserError, match=r"config\.json: its 'sampling' cannot be read"):
        open_checkpoint(weights)


def test_two_adapters_of_different_steps_are_refused(folders, refused, pair, tmp_path):
    options = ("--config", "omnigen_distill", "--workdir", tmp_path / "two")
    run("distill", folders / "weights", *options, *TINY, "--config.sample.steps=2")
    both = ("--lora", folders / "adapter", "--lora", tmp_path / "two")
    line = refused(
        "fuse", *pair, "-o", tmp_path / "x.png", "--checkpoint", folders / "OmniGen", *both
    )
    assert "distilled for different sampling (steps 4 and 2)" in line


def test_the_teacher_of_adapters_is_the_model_under_them(folders, refused, tmp_path):
    line = refused(
        *("distill", folders / "weights", "--config", "omnigen_distill"),
        *("--workdir", tmp_path / "run", *TINY, f"--config.weights={folders / 'OmniGen'}"),
    )
    assert "the teacher of adapters is the model under them" in line
