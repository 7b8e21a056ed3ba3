"""The same losses on one device, on a mesh and in several processes."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.processes

TRAIN = """
import json, sys
from ditfuse_jax.train import load_recipe, train
for folder in json.loads(sys.argv[1]):
    train(load_recipe("nano_m3", sys.argv[2:]), folder, evaluations=(), quiet=True)
"""
LAYERS = "--config.model.num_layers=2"


@pytest.fixture(scope="module")
def runs(overrides, run_code, tmp_path_factory):
    """Six steps on one device; five on a mesh of eight and the sixth on one device."""
    folder = tmp_path_factory.mktemp("runs")
    one, eight = str(folder / "one"), str(folder / "eight")
    mesh = [f"--config.mesh.{size}" for size in ("data=1", "fsdp=2", "context=2", "tensor=2")]
    for folders, arguments, environment in (
        ([eight], ["--config.train.steps=5", *mesh], {"JAX_NUM_CPU_DEVICES": "8"}),
        ([one, eight], ["--config.train.steps=6"], {}),
    ):
        arguments = overrides(LAYERS, *arguments)
        done = run_code(TRAIN, json.dumps(folders), *arguments, environment=environment)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_one_device_and_eight_give_the_same_losses_and_share_checkpoints(runs, losses):
    one, eight = losses(runs / "one"), losses(runs / "eight")
    assert list(one) == list(eight) == list(range(1, 7))
    np.testing.assert_allclose(list(eight.values()), list(one.values()), rtol=1e-5)
    assert one[6] != one[1]


def test_two_processes_give_the_losses_of_one(runs, start_group, losses, tmp_path):
    for process in start_group(tmp_path / "two", 2, LAYERS, "--config.train.steps=3"):
        assert process.wait(timeout=240) == 0, process.stderr.read()[-3000:]
    one = list(losses(runs / "one").values())[:3]
    np.testing.assert_allclose(list(losses(tmp_path / "two").values()), one, rtol=1e-5)
    assert [path.name for path in (tmp_path / "two" / "checkpoints").iterdir()] == ["3"]
    # Both evaluated, with the same scores.
    best = json.loads((tmp_path / "two" / "best.json").read_text())
    assert list(best["values"]) == ["3"]
    assert 0 < best["values"]["3"] < 60
