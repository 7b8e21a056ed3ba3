"""The loop over heads and blocks on a CPU, and when `xla` uses it."""

import contextlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.model import Layout
from ditfuse_jax.model.attention import attend, cpu, reference
from ditfuse_jax.model.logical_axes import logical_axis_rules

pytestmark = [pytest.mark.usefixtures("exact_products"), pytest.mark.medium]

LAYOUT = Layout(text=(6, 4, 5), grid=(3, 4), draws=2)
MASK = LAYOUT.full_mask


@pytest.fixture(autouse=True)
def small_cache(monkeypatch):
    monkeypatch.setattr(cpu, "BLOCK_SCORES", 100)


def inputs(mask=MASK, batch=2):
    random = np.random.default_rng(0)
    q = random.standard_normal((batch, mask.num_queries, 8, 8)).astype("f4")
    k, v = random.standard_normal((2, batch, mask.num_keys, 4, 8)).astype("f4")
    valid = random.uniform(size=(batch, mask.num_keys)) < 0.7
    valid[:, 0] = True
    return q, k, v, valid


def loops_over_heads(sharding=None) -> bool:
    q, k, v, valid = inputs()
    with contextlib.nullcontext() if sharding is None else logical_axis_rules(lambda *_: sharding):
        run = jax.make_jaxpr(lambda *x: attend(*x, MASK, valid, implementation="xla"))
        return "scan" in str(run(q, k, v))


# Two query heads of 12 queries and 52 keys (15 of text, 2 * 12 of images, 13 of the draw): 1248.
@pytest.mark.parametrize(
    ("mask", "limit", "heads_at_once"),
    [
        (MASK, 1, 1),
        (MASK, 100, 1),
        (MASK, 10**6, 1),
        (LAYOUT.draw_mask, 100, 1),
        (LAYOUT.draw_mask, 3 * 1248, 2),
        (LAYOUT.draw_mask, 4 * 1248, 4),
    ],
)
def test_values_and_gradients_do_not_depend_on_blocks_and_heads_per_iteration(
    models, monkeypatch, mask, limit, heads_at_once
):
    monkeypatch.setattr(cpu, "BLOCK_SCORES", limit)
    q, k, v, valid = inputs(mask)
    assert cpu._heads_at_once(mask, q.reshape(*q.shape[:2], 4, 2, 8)) == heads_at_once

    def run(attend):
        def total(q, k, v):
            out = attend(q, k, v, mask, valid)
            return jnp.sum(jnp.sin(out)), out

        (_, out), gradients = models.jit(
            jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)
        )(q, k, v)
        return out, *gradients

    for ours, theirs in zip(run(cpu.attend), run(reference.attend), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=5e-6)


@pytest.mark.parametrize(("rows", "per_row", "count"), [(12, 5, 1), (12, 20, 3), (7, 20, 7)])
def test_blocks_are_equal_and_as_large_as_the_cache_allows(rows, per_row, count):
    assert cpu._num_blocks(rows, per_row) == count


def test_long_sequences_need_less_memory_than_the_scores_of_one_head(monkeypatch):
    monkeypatch.undo()
    mask = Layout(text=(64, 16, 128), grid=(32, 32)).full_mask  # 3281 tokens
    shapes = [jax.ShapeDtypeStruct((1, mask.num_keys, 4, 32), jnp.float32)] * 3

    def total(q, k, v):
        valid = jnp.ones(q.shape[:2], bool)
        return jnp.sum(attend(q, k, v, mask, valid, implementation="xla"))

    compiled = jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(*shapes).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    one_head = 4 * mask.num_keys**2
    assert memory.temp_size_in_bytes < one_head


def test_one_cpu_loops_over_heads_if_their_scores_exceed_the_cache(monkeypatch):
    if jax.default_backend() != "cpu":
        pytest.skip("for a CPU")
    assert loops_over_heads()
    monkeypatch.setattr(cpu, "BLOCK_SCORES", 10**6)
    assert not loops_over_heads()


@pytest.mark.parametrize(
    ("platforms", "loops"), [(["cpu"], True), (["cpu", "cpu"], False), (["tpu"], False)]
)
def test_meshes_and_accelerators_do_not_loop_over_heads(platforms, loops):
    devices = [types.SimpleNamespace(platform=platform) for platform in platforms]
    assert loops_over_heads(types.SimpleNamespace(device_set=devices)) == loops
