"""`ditfuse convert --verify`: the original's numbers, from any folder laid out like ours."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ditfuse_jax.cli import main
from ditfuse_jax.convert.reference import Reference
from ditfuse_jax.convert.verify import checks

pytestmark = pytest.mark.medium


@pytest.fixture
def folder(official, tmp_path):
    shutil.copytree(official.folder, tmp_path / "numbers")
    return tmp_path / "numbers"


def test_every_number_of_the_original_is_matched(official):
    found = {check.name: check for check in checks(official)}
    assert {"velocity", "velocity, cached condition", "loss", "4 guided Euler steps"} <= set(found)
    assert {"lora/velocity, around the model", "lora/velocity, merged"} <= set(found)
    assert {"vae/mean", "vae/logvar", "vae/decoded"} <= set(found)
    assert sum(name.startswith("grad/") for name in found) == 7
    assert all(check.passed for check in found.values())
    assert max(check.error for check in found.values()) < 1e-5


def test_a_failed_check_is_in_the_table_and_in_the_exit_code(folder, capsys):
    shutil.rmtree(folder / "vae")
    shutil.rmtree(folder / "lora")
    golden = load_file(folder / "golden.safetensors")
    golden["loss"] = golden["loss"] * 1.01
    kept = {n: x for n, x in golden.items() if not n.startswith(("grad/", "sample/", "lora/"))}
    save_file(kept, folder / "golden.safetensors")
    assert main(["convert", "--verify", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    (failed,) = [line for line in lines if "FAIL" in line]
    assert failed.startswith("loss")
    assert lines[-1] == "2 of 3 checks passed"


def test_a_sample_with_fewer_images_has_its_slots_masked(folder):
    """The second sample loses its second image: its numbers change, the first sample's do not."""

    def velocity(reference):
        golden = reference.golden
        noisy = jnp.moveaxis(jnp.asarray(golden["xt"]), 1, -1)[:, None]
        t = jnp.asarray(golden["t"])[:, None]
        return reference.model()(reference.condition, noisy, t)[:, 0]

    before = velocity(Reference(folder))
    meta = json.loads((folder / "golden.json").read_text())
    sample = meta["batch"][1]
    start, stop = sample["images"].pop()
    del sample["ids"][start:stop]
    (folder / "golden.json").write_text(json.dumps(meta))
    golden = load_file(folder / "golden.safetensors")
    golden["latent_images"] = golden["latent_images"][:3]
    save_file(golden, folder / "golden.safetensors")
    reference = Reference(folder)
    np.testing.assert_array_equal(reference.condition.image_valid, [[True, True], [True, False]])
    after = velocity(reference)
    np.testing.assert_allclose(after[0], before[0], atol=1e-5)
    assert np.abs(after[1] - before[1]).max() > 1e-3


@pytest.mark.parametrize("name", ["golden.json", "golden.safetensors", "config.json"])
def test_a_missing_file_is_named(folder, name, capsys):
    (folder / name).unlink()
    assert main(["convert", "--verify", str(folder)]) == 2
    assert name in capsys.readouterr().err
