"""Compares a sequence on several devices with one device; prints a JSON object."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import random_models as models  # pyright: ignore[reportMissingImports]
from flax import nnx

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.sample.sampler import make_sampler

MESHES = {
    "context=4": MeshConfig(data=1, context=4),
    "fsdp=2 context=2 tensor=2": MeshConfig(data=1, fsdp=2, context=2, tensor=2),
}
# With grouped heads; no length of this model is even.
CONFIG = dataclasses.replace(models.LATENT, attention="xla", remat="attention")
BATCH, DRAWS = 4, 2


def partitioner(config: MeshConfig) -> Partitioner:
    count = config.fsdp * config.context * config.tensor
    return Partitioner(make_mesh(config, jax.devices()[:count]))


def compiled_gradients(config, partitioner: Partitioner | None):
    """Returns the compiled gradient of the outputs' mean square, and its arguments."""
    graph, abstract = models.graph(config)
    parameters = models.parameters(config)
    batch = models.condition(config, batch=BATCH), *models.targets(config, BATCH, DRAWS)
    if partitioner:
        parameters = jax.device_put(parameters, partitioner.parameters(abstract))
        batch = jax.device_put(batch, partitioner.batch())

    def loss(parameters, *batch):
        with (
            logical_axis_rules(partitioner.activation) if partitioner else contextlib.nullcontext()
        ):
            return jnp.mean(nnx.merge(graph, parameters)(*batch) ** 2)

    compiled = models.jit(jax.value_and_grad(loss)).lower(parameters, *batch).compile()
    return compiled, parameters, *batch


def sample(config, partitioner: Partitioner | None):
    """Samples with two guided steps of three branches."""
    graph, abstract = models.graph(config)
    parameters = models.parameters(config)
    if partitioner:
        parameters = jax.device_put(parameters, partitioner.parameters(abstract))
    condition = models.condition(config, batch=BATCH)
    branches = jax.tree.map(lambda x: np.stack([x, np.roll(x, 1, 0), x]), condition)
    noise = models.targets(config, batch=BATCH)[0][:, 0]
    run = make_sampler(graph, SamplingConfig(steps=2), partitioner)
    return jax.device_get(run(parameters, branches, noise, np.array([2.0, -0.4, -0.6], "f4")))


def error(found, expected) -> float:
    """Returns the largest error over all leaves, relative to the leaf's largest value."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)) for a, b in pairs)


def main():
    program, *arguments = compiled_gradients(CONFIG, None)
    expected = jax.device_get(program(*arguments))
    images = sample(CONFIG, None)
    cases = {}
    for name, mesh in MESHES.items():
        program, *arguments = compiled_gradients(CONFIG, partitioner(mesh))
        loss, gradients = jax.device_get(program(*arguments))
        cases[name] = {
            "loss": error(loss, expected[0]),
            "gradients": error(gradients, expected[1]),
        }
    cases[name]["images"] = error(sample(CONFIG, partitioner(mesh)), images)  # of the last mesh
    # On one CPU `xla` would loop over heads and need less memory, so it is not comparable.
    long = dataclasses.replace(
        CONFIG, attention="reference", text_slots=(500, 20, 400), num_layers=4
    )
    bytes_per_device = {}
    for count in (1, 4):
        sharded = partitioner(MeshConfig(data=1, context=count))
        program, *_ = compiled_gradients(long, sharded)
        memory = program.memory_analysis()
        assert memory is not None
        bytes_per_device[count] = memory.temp_size_in_bytes
    print(json.dumps({"cases": cases, "temporary bytes": bytes_per_device}))


if __name__ == "__main__":
    main()
