"""The rematerialisation ladder: what is kept between the passes, and where."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from ditfuse_jax.model.remat import NAMES


@pytest.fixture(scope="module")
def lowered(models):
    """Name -> the gradient's program, before compilation, as a TPU would get it."""
    found = {}
    for name in NAMES:
        config = dataclasses.replace(models.LATENT, attention="xla", remat=name)
        graph, _ = models.graph(config)
        batch = models.condition(config, batch=2), *models.targets(config, batch=2)

        def loss(parameters, *batch, graph=graph):
            return jnp.mean(nnx.merge(graph, parameters)(*batch) ** 2)

        traced = jax.jit(jax.grad(loss)).trace(models.parameters(config), *batch)
        found[name] = traced.lower(lowering_platforms=("tpu",)).as_text()
    return found


def test_only_offload_moves_anything_to_the_host(lowered):
    assert "pinned_host" in lowered["offload"]
    assert not any("pinned_host" in text for name, text in lowered.items() if name != "offload")


def test_every_rung_is_another_program(lowered):
    assert len(set(lowered.values())) == len(NAMES)
