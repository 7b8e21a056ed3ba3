"""OmniGen's weights on the command line: convert, fine-tune, export, fuse."""

import gc
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image, write_image

pytestmark = pytest.mark.medium

# OmniGen's architecture, so small that it samples and trains in a second.
TINY = (
    "--config.data.crop=(64, 64)",
    "--config.data.batch_size=2",
    "--config.data.workers=0",
    "--config.model.dtype=float32",
    "--config.model.remat=none",
    "--config.lora.rank=2",
    "--config.lora.alpha=4.0",
    "--config.optimizer.learning_rate=0.01",
    "--config.optimizer.warmup_steps=1",
    "--config.train.accumulation=2",
    "--config.train.steps=2",
    "--config.evaluations.held_out.every=0",
    "--config.evaluations.held_out.count=1",
    "--config.sample.steps=2",
)


def run(*options) -> None:
    """Runs a command that has to succeed."""
    assert main([str(word) for word in options]) == 0


@pytest.fixture(scope="module", autouse=True)
def little_to_collect():
    """Freezes the garbage collector's objects: orbax collects garbage for every leaf it writes."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def original(omnigen_folder, tmp_path_factory) -> Path:
    """A small random OmniGen folder as it would be downloaded."""
    folder = tmp_path_factory.mktemp("download") / "OmniGen"
    omnigen_folder.write(folder, hidden=64, layers=2, heads=4, kv_heads=2, mlp=96)
    return folder


@pytest.fixture(scope="session")
def converted(original, tmp_path_factory) -> Path:
    """The same weights as a run folder."""
    folder = tmp_path_factory.mktemp("converted") / "omnigen"
    run("convert", original, "-o", folder)
    return folder


@pytest.fixture(scope="session")
def lora_run(converted, tmp_path_factory) -> Path:
    """Two steps of adapters over the converted weights."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    run("train", "--config", f"omnigen_lora:{converted}", "--workdir", folder, *TINY)
    return folder


@pytest.fixture(scope="session")
def adapter(lora_run, tmp_path_factory) -> Path:
    """The trained adapter as a PEFT folder."""
    folder = tmp_path_factory.mktemp("peft") / "adapter"
    run("convert", lora_run, "-o", folder)
    return folder


@pytest.fixture
def fused(pair, tmp_path):
    """Fuses the pair with options that choose the model; returns the image."""

    def fuse(*options) -> np.ndarray:
        output = tmp_path / f"fused-{len(list(tmp_path.iterdir()))}.png"
        run("fuse", *pair, "-o", output, *options, "--steps", "2")
        return read_image(output).astype(int)

    return fuse


@pytest.fixture
def refused(capsys):
    """Runs a command that has to fail; returns its error line."""

    def run(*options) -> str:
        capsys.readouterr()
        assert main([str(word) for word in options]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        return line

    return run


def test_weights_come_back_bit_for_bit(original, converted, tmp_path):
    run("convert", converted, "-o", tmp_path / "back")
    before = load_file(original / "model.safetensors")
    after = load_file(tmp_path / "back" / "model.safetensors")
    assert set(before) == set(after)
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        np.testing.assert_array_equal(tensor.view(np.uint8), after[name].view(np.uint8), name)
    for name in ("tokenizer.json", "tokenizer_config.json", "vae/config.json"):
        assert (original / name).read_bytes() == (tmp_path / "back" / name).read_bytes()
    run("convert", tmp_path / "back", "-o", tmp_path / "again")


def test_original_and_converted_weights_give_the_same_image(original, converted, fused):
    # Both compute in bfloat16.
    np.testing.assert_array_equal(fused("--checkpoint", original), fused("--checkpoint", converted))


def test_a_lora_run_saves_its_adapters_and_nothing_of_the_model(lora_run):
    step = lora_run / "checkpoints" / "2"
    assert (step / "lora").is_dir()
    assert not (step / "parameters").exists()
    model = sum(f.stat().st_size for f in (lora_run / "checkpoints").rglob("*") if f.is_file())
    assert model < 400_000


def test_a_lora_run_continues_with_the_same_command(lora_run, converted, tmp_path, capsys):
    shutil.copytree(lora_run, tmp_path / "lora")
    options = [
        "train",
        "--config",
        f"omnigen_lora:{converted}",
        "--workdir",
        tmp_path / "lora",
        *TINY,
    ]
    run(*options, "--config.train.steps=3")
    assert "at step 2 of 3" in capsys.readouterr().err + capsys.readouterr().out
    assert (tmp_path / "lora" / "checkpoints" / "3" / "lora").is_dir()


def test_a_run_on_latents_fuses_where_its_training_data_is_gone(converted, fused, tmp_path):
    photos, folder = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    write_image(photos / "one.png", np.full((70, 70, 3), 90, np.uint8))
    source = f"--config.data.mixture.photos.source={photos}"
    run("train", "--config", f"omnigen_lora:{converted}", "--workdir", folder, *TINY, source)
    shutil.rmtree(photos)
    assert fused("--checkpoint", folder).shape == (37, 53, 3)


def test_training_changed_the_output(lora_run, converted, fused):
    trained, before = fused("--checkpoint", lora_run), fused("--checkpoint", converted)
    assert np.abs(trained - before).max() > 0


def test_an_exported_adapter_equals_the_trained_one(lora_run, converted, adapter, fused):
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 2
    trained = fused("--checkpoint", lora_run)
    merged = fused("--checkpoint", converted, "--lora", adapter)
    again = fused("--checkpoint", converted, "--lora", lora_run)
    # A merged kernel is rounded to bfloat16 once more.
    assert np.abs(trained - merged).mean() < 2
    np.testing.assert_array_equal(merged, again)


def test_merged_weights_can_be_exported_in_omnigen_s_layout(original, adapter, fused, tmp_path):
    run("convert", original, "--lora", adapter, "--to", "omnigen", "-o", tmp_path / "merged")
    exported = fused("--checkpoint", tmp_path / "merged")
    merged = fused("--checkpoint", original, "--lora", adapter)
    assert np.abs(exported - merged).mean() < 2


def test_an_adapter_of_weight_zero_changes_nothing(original, adapter, fused):
    np.testing.assert_array_equal(
        fused("--checkpoint", original, "--lora", f"{adapter}=0"), fused("--checkpoint", original)
    )


def test_a_peft_adapter_becomes_a_run_to_fuse_with(converted, adapter, lora_run, fused, tmp_path):
    run("convert", adapter, "--base", converted, "-o", tmp_path / "imported")
    # The imported one computes in bfloat16, as OmniGen's recipes do.
    imported, trained = (
        fused("--checkpoint", tmp_path / "imported"),
        fused("--checkpoint", lora_run),
    )
    assert np.abs(imported - trained).mean() < 2


def test_training_continues_from_a_peft_adapter(converted, adapter, tmp_path, refused):
    options = ["train", "--config", f"omnigen_lora:{converted}", "--workdir", tmp_path / "more"]
    options += [*TINY, f"--config.lora.adapter={adapter}"]
    assert "has rank 2, the recipe 4: set --config.lora.rank=2" in refused(
        *options, "--config.lora.rank=4"
    )
    run(*options)


def test_weights_that_were_moved_are_found_with_base(lora_run, converted, fused, refused, tmp_path):
    shutil.copytree(converted, tmp_path / "moved")
    shutil.copytree(lora_run, tmp_path / "run")
    config = tmp_path / "run" / "checkpoints" / "2" / "config" / "metadata"
    config.write_text(config.read_text().replace(str(converted), "/nowhere/omnigen"))
    lost = refused("fuse", "a.png", "b.png", "-o", "c.png", "--checkpoint", tmp_path / "run")
    assert "/nowhere/omnigen" in lost
    assert "--base" in lost
    found = fused("--checkpoint", tmp_path / "run", "--base", tmp_path / "moved")
    np.testing.assert_array_equal(found, fused("--checkpoint", lora_run))


class TestRefused:
    """What cannot be converted is refused with the reason, and nothing is written."""

    def test_an_existing_output(self, original, converted, refused):
        assert "exists: choose another output" in refused("convert", original, "-o", converted)

    def test_a_truncated_file(self, original, refused, tmp_path):
        shutil.copytree(original, tmp_path / "cut")
        path = tmp_path / "cut" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        line = refused("convert", tmp_path / "cut", "-o", tmp_path / "out")
        assert str(path) in line
        assert [p.name for p in tmp_path.iterdir()] == ["cut"]

    def test_another_vocabulary(self, original, refused, tmp_path):
        shutil.copytree(original, tmp_path / "other")
        path = tmp_path / "other" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 64}))
        line = refused("convert", tmp_path / "other", "-o", tmp_path / "out")
        assert "embed_tokens" in line
        assert str(config["vocab_size"]) in line

    @pytest.mark.parametrize("dtype", [np.int8, np.float64])
    def test_another_type(self, original, refused, tmp_path, dtype):
        shutil.copytree(original, tmp_path / "other")
        path = tmp_path / "other" / "model.safetensors"
        tensors = load_file(path)
        tensors["llm.norm.weight"] = tensors["llm.norm.weight"].astype(dtype)
        save_file(tensors, path)
        line = refused("convert", tmp_path / "other", "-o", tmp_path / "out")
        assert "llm.norm.weight" in line

    def test_a_folder_without_config(self, original, refused, tmp_path):
        shutil.copytree(original, tmp_path / "other")
        (tmp_path / "other" / "config.json").unlink()
        assert "config.json" in refused("convert", tmp_path / "other", "-o", tmp_path / "out")

    def test_a_pickle(self, refused, tmp_path):
        (tmp_path / "model.pt").write_bytes(b"anything")
        line = refused("convert", tmp_path / "model.pt", "-o", tmp_path / "out")
        assert "pickle" in line
        assert "safetensors" in line

    def test_an_adapter_for_another_model(self, adapter, omnigen_folder, refused, tmp_path):
        omnigen_folder.write(tmp_path / "wide", hidden=96, layers=2, heads=4, kv_heads=4, mlp=96)
        line = refused("convert", tmp_path / "wide", "--lora", adapter, "-o", tmp_path / "out")
        assert "lora_A.weight has shape (2, 64), expected (2, 96)" in line
        assert not (tmp_path / "out").exists()

    def test_an_adapter_without_its_weights(self, adapter, refused, tmp_path):
        assert "--base" in refused("convert", adapter, "-o", tmp_path / "out")

    def test_a_model_of_another_shape_in_omnigen_s_layout(self, checkpoint, refused, tmp_path):
        line = refused("convert", checkpoint, "-o", tmp_path / "out")
        assert "head='linear'" in line

    def test_training_in_a_folder_of_weights(self, converted, refused):
        line = refused(
            "train", "--config", f"omnigen_lora:{converted}", "--workdir", converted, *TINY
        )
        assert "another --workdir" in line

    def test_adapters_without_weights(self, refused, tmp_path):
        line = refused("train", "--config", "omnigen_lora", "--workdir", tmp_path / "run", *TINY)
        assert "omnigen_lora:FOLDER" in line
        assert not (tmp_path / "run").exists()
