"""The same numbers on one device, on a mesh of many and in several processes."""

import json

import numpy as np

TRAIN_AND_PRINT = """
import json, sys
from ditfuse_jax.train import load_recipe, train
folder, *words = sys.argv[1:]
train(load_recipe("nano_m3", words), folder, quiet=True)
records = [json.loads(line) for line in open(folder + "/metrics.jsonl")]
print(json.dumps([record["loss"] for record in records if "loss" in record]))
"""


def run_losses(run_code, folder, words, environment=None) -> list[float]:
    done = run_code(TRAIN_AND_PRINT, str(folder), *words, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_one_device_and_eight_give_the_same_losses_and_share_checkpoints(
    overrides, run_code, tmp_path
):
    words = overrides("--config.train.steps=5")
    mesh = [f"--config.mesh.{size}" for size in ("data=1", "fsdp=2", "context=2", "tensor=2")]
    eight_devices = {"JAX_NUM_CPU_DEVICES": "8"}
    one = run_losses(run_code, tmp_path / "one", words)
    eight = run_losses(run_code, tmp_path / "eight", [*words, *mesh], eight_devices)
    assert len(one) == 5
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    # A checkpoint of the mesh continues on one device.
    longer = [*words, "--config.train.steps=6"]
    whole = run_losses(run_code, tmp_path / "one", longer)
    moved = run_losses(run_code, tmp_path / "eight", longer)
    np.testing.assert_allclose(moved, whole, rtol=1e-5)


def test_two_processes_give_the_losses_of_one(overrides, start_group, losses, run_code, tmp_path):
    steps = "--config.train.steps=3"
    one = run_losses(run_code, tmp_path / "one", overrides(steps))
    for process in start_group(tmp_path / "two", 2, steps):
        assert process.wait(timeout=240) == 0, process.stderr.read()[-3000:]
    np.testing.assert_allclose(list(losses(tmp_path / "two").values()), one, rtol=1e-5)
    assert [path.name for path in (tmp_path / "two" / "checkpoints").iterdir()] == ["3"]
    # Both evaluated, and agreed on what they found.
    best = json.loads((tmp_path / "two" / "best.json").read_text())
    assert list(best["values"]) == ["3"]
    assert 0 < best["values"]["3"] < 60
