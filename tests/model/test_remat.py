"""The rematerialisation ladder: what is kept between the passes, and where."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.model.attention import cpu
from ditfuse_jax.model.remat import NAMES


def gradient(models, **changes):
    """The traced gradient of a loss of the small model, and what it takes."""
    config = dataclasses.replace(models.LATENT, **changes)
    graph, _ = models.graph(config)
    batch = models.condition(config, batch=2), *models.targets(config, batch=2)

    def loss(parameters, *batch):
        return jnp.mean(nnx.merge(graph, parameters)(*batch) ** 2)

    arguments = models.parameters(config), *batch
    return jax.jit(jax.grad(loss)).trace(*arguments), arguments


@pytest.fixture(scope="module")
def lowered(models):
    """Name -> the gradient's program, before compilation, as a TPU would get it."""
    return {
        name: gradient(models, attention="xla", remat=name)[0]
        .lower(lowering_platforms=("tpu",))
        .as_text()
        for name in NAMES
    }


def products(traced) -> int:
    """Matrix products of a program, those of a loop's body once."""
    return traced.lower().as_text().count("dot_general")


def test_only_offload_moves_anything_to_the_host(lowered):
    assert "pinned_host" in lowered["offload"]
    assert not any("pinned_host" in text for name, text in lowered.items() if name != "offload")


def test_every_rung_is_another_program(lowered):
    assert len(set(lowered.values())) == len(NAMES)


def test_no_product_runs_again_where_the_results_of_products_are_kept(models, monkeypatch):
    monkeypatch.setattr(cpu, "BLOCK_SCORES", 64)  # attention head by head, as at usual sizes
    count = {
        name: products(gradient(models, attention="xla", remat=name)[0])
        for name in ("none", "projections", "attention", "full")
    }
    assert count["projections"] == count["none"]
    assert count["attention"] == count["none"] + 3  # queries to values, output, gate and up
    assert count["full"] > count["attention"]


@pytest.mark.parametrize(
    ("remat", "again"), [("projections", False), ("attention", False), ("full", True)]
)
def test_the_kernel_runs_forward_again_only_where_its_results_are_not_kept(models, remat, again):
    traced, _ = gradient(models, attention="splash", remat=remat)
    program = traced.lower().compile().as_text()
    names = set(re.findall(r'op_name="([^"]*splash_mha_fwd[^"]*)"', program))
    assert names
    assert any("rematted" in name for name in names) is again


@pytest.mark.parametrize("remat", ["none", "attention"])
def test_layers_written_out_compute_what_their_loop_computes(models, remat):
    looped, arguments = gradient(models, remat=remat)
    unrolled, _ = gradient(models, remat=remat, unroll=True)
    assert products(unrolled) > products(looped)
    both = (x.lower().compile()(*arguments) for x in (looped, unrolled))
    for ours, theirs in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=1e-5)
