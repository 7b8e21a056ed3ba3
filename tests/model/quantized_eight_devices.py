"""Runs a quantised model on one and on eight devices; prints the differences as a JSON object."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import random_models as models
from flax import nnx

from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.model.quantization import QUANTIZED_LAYERS, quantize_layers
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.parallel.abstract import abstract_model

# Two blocks of nf4 along every sharded dimension: for two devices, and too few for four.
MESHES = {"divisible": MeshConfig(data=2, fsdp=2, tensor=2), "not": MeshConfig(fsdp=4, tensor=2)}
CONFIG = dataclasses.replace(models.LATENT, hidden_size=128, intermediate_size=128)


def quantized(name):
    """Returns random parameters whose layers are quantised."""
    parameters = models.parameters(CONFIG)
    for (*parents, last), shape in QUANTIZED_LAYERS.items():
        owner = parameters
        for parent in parents:
            owner = owner[parent]
        owner[last] = quantize_layers(jnp.asarray(owner[last]["kernel"]), name, shape)._asdict()
    return parameters


def differences(name, mesh):
    """Returns relative differences of velocities, and over how many devices codes are split."""
    condition = models.condition(CONFIG, 4)
    noisy, t = models.targets(CONFIG, 4)
    graph, _ = make_graph(Network(CONFIG, quantize=name))

    def run(parameters):
        model = nnx.merge(graph, parameters)
        cached = model.denoise(model.encode(condition), condition, noisy[:, 0], t[:, 0])
        return model(condition, noisy, t)[:, 0], cached

    partitioner = Partitioner(make_mesh(MESHES[mesh], jax.devices()))

    def run_sharded(parameters):
        with logical_axis_rules(partitioner.activation):
            return run(parameters)

    parameters = quantized(name)
    expected = jax.jit(run)(jax.device_put(parameters, jax.devices()[0]))
    abstract = abstract_model(CONFIG, partitioner, quantize=name)
    placed = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), parameters, abstract)
    parts = set()
    for path in QUANTIZED_LAYERS:
        owner = placed
        for key in path:
            owner = owner[key]
        codes = owner["codes"]
        parts.add(codes.size // codes.addressable_shards[0].data.size)
    found = jax.jit(run_sharded)(placed)
    errors = [
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())
        for a, b in zip(found, expected, strict=True)
    ]
    return {"errors": errors, "parts": sorted(parts)}


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "highest")
    cases = [("int8", "divisible"), ("nf4", "divisible"), ("nf4", "not")]
    print(json.dumps({", ".join(case): differences(*case) for case in cases}))
