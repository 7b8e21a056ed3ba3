"""Runs a model on eight devices; prints a JSON object."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import random_models as models  # pyright: ignore[reportMissingImports]
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh

MESHES = {
    "data fsdp tensor": MeshConfig(data=2, fsdp=2, tensor=2),
    "data context tensor": MeshConfig(data=2, context=2, tensor=2),
}
CONFIG = dataclasses.replace(models.LATENT, attention="xla")


def forward(partitioner: Partitioner | None):
    """Returns the tiny model's output, on one device or a mesh, and one of its parameters."""
    graph, abstract = models.graph(CONFIG)
    parameters = models.parameters(CONFIG)
    batch = (models.condition(CONFIG, batch=4), *models.targets(CONFIG, batch=4))
    resolver = contextlib.nullcontext()
    if partitioner is not None:
        parameters = jax.device_put(parameters, partitioner.parameters(abstract))
        batch = jax.device_put(batch, partitioner.batch())
        resolver = logical_axis_rules(partitioner.activation)

    def run(parameters, *batch):
        with resolver:
            return nnx.merge(graph, parameters)(*batch)

    output = models.jit(run)(parameters, *batch)
    return jax.device_get(output), parameters["transformer"]["layers"]["mlp"]["down_proj"]["kernel"]


def main():
    expected, _ = forward(None)
    report = {"devices": jax.device_count(), "meshes": {}}
    for name, config in MESHES.items():
        mesh = make_mesh(config)
        output, kernel = forward(Partitioner(mesh))
        report["meshes"][name] = {
            "axes": dict(mesh.shape),
            "types": [axis_type.name for axis_type in mesh.axis_types],
            "error": float(np.abs(output - expected).max() / np.abs(expected).max()),
            "kernel": kernel.shape,
            "kernel_shard": kernel.addressable_shards[0].data.shape,
        }
    subset = make_mesh(MeshConfig(tensor=2), jax.devices()[:4])
    report["subset"] = dict(subset.shape)
    try:
        make_mesh(MeshConfig(data=4, dcn_data=2))
    except UserError as error:
        report["cross"] = str(error)
    except Exception as error:
        report["cross"] = f"{type(error).__name__}: {error}"
    print(json.dumps(report))


if __name__ == "__main__":
    main()
