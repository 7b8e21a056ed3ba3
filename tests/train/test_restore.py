"""A checkpoint is restored on any mesh: exactly, sharded, reading each byte about once."""

import json

import jax
import jax.numpy as jnp
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.state import TrainState

pytestmark = pytest.mark.medium

# Saves a state of random numbers from a mesh of eight devices, restores it on others, and prints
# the differences and the bytes read and stored.
SAVE_AND_RESTORE = """
import json, sys, time
from pathlib import Path
import jax, numpy as np
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.train import load_recipe, resolve
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.state import abstract_state

folder, arguments = Path(sys.argv[1]), sys.argv[2:]
recipe = resolve(load_recipe("nano_m3", arguments))
optimizer = make_optimizer(recipe.optimizer, 10)

def abstract_on(**sizes):
    config = MeshConfig(**{"data": 1} | sizes)
    devices = jax.devices()[: np.prod(list(sizes.values()))]
    return abstract_state(recipe.network, optimizer, True, Partitioner(make_mesh(config, devices)))

random = np.random.default_rng(0)
abstract = abstract_on(data=2, fsdp=4)
state = jax.tree.map(
    lambda x: jax.device_put(random.normal(size=x.shape).astype(x.dtype), x.sharding), abstract
)
writer = Checkpoints(folder)
writer.save(1, state, {})
writer.close()
stored = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
wanted = jax.device_get(state)

def bytes_read():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])

report = {"stored": stored, "arrays": sum(x.nbytes for x in jax.tree.leaves(state))}
for name, sizes in {
    "one device": dict(data=1),
    "tensor=2 context=2": dict(tensor=2, context=2),
    "data=2 fsdp=2 tensor=2": dict(data=2, fsdp=2, tensor=2),
}.items():
    target = abstract_on(**sizes)
    reader = Checkpoints(folder)
    before = bytes_read()
    restored = reader.restore(1, target)
    jax.block_until_ready(restored)
    read = bytes_read() - before
    reader.close()
    leaves = [jax.tree.leaves(tree) for tree in (restored, target, wanted)]
    report[name] = {
        "read": read,
        "misplaced": sum(x.sharding != t.sharding for x, t, _ in zip(*leaves, strict=True)),
        "wrong": sum(not np.array_equal(np.asarray(x), w) for x, _, w in zip(*leaves, strict=True)),
        "spread": sum(not x.sharding.is_fully_replicated for x in leaves[0]),
    }
print(json.dumps(report))
"""

MESHES = ("one device", "tensor=2 context=2", "data=2 fsdp=2 tensor=2")


@pytest.fixture(scope="module")
def report(tmp_path_factory, run_code, overrides):
    arguments = overrides("--config.model.hidden_size=128", "--config.model.intermediate_size=512")
    folder = str(tmp_path_factory.mktemp("run"))
    eight = {"JAX_NUM_CPU_DEVICES": "8"}
    done = run_code(SAVE_AND_RESTORE, folder, *arguments, environment=eight)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.processes
@pytest.mark.parametrize("mesh", MESHES)
def test_restored_arrays_equal_the_saved_ones_and_have_the_right_shardings(report, mesh):
    found = report[mesh]
    assert (found["wrong"], found["misplaced"]) == (0, 0)
    assert (found["spread"] > 0) == (mesh != "one device")


@pytest.mark.processes
@pytest.mark.parametrize("mesh", MESHES)
def test_each_byte_is_read_about_once(report, mesh):
    assert report["stored"] > 0.8 * report["arrays"]
    assert report[mesh]["read"] < 1.06 * report["stored"]


def state(parameters) -> TrainState:
    number = jnp.zeros(())
    return TrainState(number, parameters, {"mu": number}, None, number, number)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"a": 2, "b": 3, "c": 4}, r"lacks parameters/c .*expected \(4,\)\) and 0 more"),
        ({"b": 3}, r"has surplus parameters/a .*found \(2,\).* and 0 more"),
        ({"a": 2, "b": 5}, r"has another shape for parameters/b \(found \(3,\), expected \(5,\)"),
    ],
)
def test_leaves_that_differ_are_named_in_one_line(tmp_path, wanted, message):
    checkpoints = Checkpoints(tmp_path)
    saved = state({"a": jnp.ones(2), "b": jnp.ones(3)})
    checkpoints.save(1, saved, {})
    checkpoints.wait()
    abstract = jax.eval_shape(lambda: state({name: jnp.ones(n) for name, n in wanted.items()}))
    with pytest.raises(UserError, match=message) as raised:
        checkpoints.restore(1, abstract)
    checkpoints.close()
    assert "\n" not in str(raised.value)
