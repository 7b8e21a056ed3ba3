"""Rematerialisation policies: what is saved for the backward pass, and where."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.attention import cpu
from ditfuse_jax.model.remat import AUTO, REMAT_POLICIES, remat

pytestmark = pytest.mark.medium
POLICIES = set(REMAT_POLICIES) - {AUTO}


def gradient(models, **changes):
    """Returns the traced gradient of a loss of the small model, and its arguments."""
    config = dataclasses.replace(models.LATENT, **changes)
    graph, _ = models.graph(config)
    batch = models.condition(config, batch=2), *models.targets(config, batch=2)

    def loss(parameters, *batch):
        return jnp.mean(nnx.merge(graph, parameters)(*batch) ** 2)

    arguments = models.parameters(config), *batch
    return jax.jit(jax.grad(loss)).trace(*arguments), arguments


@pytest.fixture(scope="module")
def lowered(models):
    """Policy name -> the gradient's program for a TPU before compilation."""
    return {
        name: gradient(models, attention="xla", remat=name)[0]
        .lower(lowering_platforms=("tpu",))
        .as_text()
        for name in POLICIES
    }


def products(traced) -> int:
    """Counts matrix products of a program, those of a loop's body once."""
    return traced.lower().as_text().count("dot_general")


def test_only_offload_moves_anything_to_the_host(lowered):
    assert "pinned_host" in lowered["offload"]
    assert not any("pinned_host" in text for name, text in lowered.items() if name != "offload")


def test_every_policy_gives_a_different_program(lowered):
    assert len(set(lowered.values())) == len(POLICIES)


def test_no_product_is_recomputed_if_the_results_of_products_are_saved(models, monkeypatch):
    monkeypatch.setattr(cpu, "BLOCK_SCORES", 64)  # head by head, as for sequences of usual length
    count = {
        name: products(gradient(models, attention="xla", remat=name)[0])
        for name in ("none", "projections", "attention", "full")
    }
    assert count["projections"] == count["none"]
    assert count["attention"] == count["none"] + 3  # queries to values, output, gate and up
    assert count["full"] > count["attention"]


@pytest.mark.parametrize(
    ("remat", "recomputed"), [("projections", False), ("attention", False), ("full", True)]
)
def test_the_kernel_is_recomputed_only_if_its_results_are_not_saved(models, remat, recomputed):
    traced, _ = gradient(models, attention="splash", remat=remat)
    program = traced.lower().compile().as_text()
    names = set(re.findall(r'op_name="([^"]*splash_mha_fwd[^"]*)"', program))
    assert names
    assert any("rematted" in name for name in names) is recomputed


@pytest.mark.parametrize("remat", ["none", "attention"])
def test_unrolled_layers_compute_the_same_as_scanned_ones(models, remat):
    scanned, arguments = gradient(models, remat=remat)
    unrolled, _ = gradient(models, remat=remat, unroll=True)
    assert products(unrolled) > products(scanned)
    both = (x.lower().compile()(*arguments) for x in (scanned, unrolled))
    for ours, theirs in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=1e-5)


def test_an_unknown_remat_policy_is_refused_with_the_known_names():
    with pytest.raises(UserError, match=r"model\.remat 'ful'.*none, .*full"):
        remat(lambda x: x, "ful")
