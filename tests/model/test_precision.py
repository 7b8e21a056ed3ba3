"""Gradients do not depend on the remat policy, and on bfloat16 only by rounding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.remat import REMAT_POLICIES

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]


@pytest.fixture(scope="module")
def gradients(models):
    """Returns a function that computes loss and gradients of a model with some fields changed."""
    done = {}

    def run(**changes):
        key = tuple(changes.items())
        if key not in done:
            config = dataclasses.replace(models.LATENT, **{"num_layers": 4} | changes)
            graph, _ = models.graph(config)
            condition, (noisy, t) = models.condition(config), models.targets(config)

            def loss(parameters):
                return jnp.mean(nnx.merge(graph, parameters)(condition, noisy, t) ** 2)

            parameters = models.parameters(config)
            compiled = models.jit(jax.value_and_grad(loss)).lower(parameters).compile()
            value, gradient = compiled(parameters)
            done[key] = float(value), gradient, compiled.memory_analysis().temp_size_in_bytes
        return done[key]

    return run


@pytest.mark.parametrize("name", sorted(set(REMAT_POLICIES) - {"none"}))
def test_every_remat_policy_gives_the_same_gradients(gradients, name):
    _, expected, _ = gradients(remat="none")
    try:
        _, actual, _ = gradients(remat=name)
    except jax.errors.JaxRuntimeError as error:
        if name == "offload" and jax.default_backend() == "cpu":
            pytest.skip(f"this backend cannot offload to host memory: {error}")
        raise
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_policies_that_save_less_need_less_memory(gradients):
    ladder = ("none", "projections", "attention", "full")
    # Enough layers that the saved values outweigh one layer's temporaries.
    memory = [gradients(remat=name, num_layers=16)[2] for name in ladder]
    assert memory == sorted(memory, reverse=True)
    assert len(set(memory)) == len(ladder)


def test_bfloat16_stays_close_to_float32_with_float32_parameters_and_outputs(models, gradients):
    loss, expected, _ = gradients(remat="none")
    half_loss, actual, _ = gradients(remat="none", dtype="bfloat16")
    assert half_loss == pytest.approx(loss, rel=0.02)
    assert half_loss != loss
    assert {x.dtype for x in jax.tree.leaves(actual)} == {jnp.dtype("float32")}
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(expected)))
    difference = jax.tree.map(lambda a, b: np.sum(np.square(a - b)), actual, expected)
    assert np.sqrt(sum(jax.tree.leaves(difference))) / norm < 0.05

    config = dataclasses.replace(models.LATENT, dtype="bfloat16")
    graph, abstract = models.graph(config)
    assert {x.dtype for x in jax.tree.leaves(abstract)} == {jnp.dtype("float32")}
    inputs = models.condition(config), *models.targets(config)
    output = jax.eval_shape(lambda state: nnx.merge(graph, state)(*inputs), abstract)
    assert output.dtype == jnp.float32
