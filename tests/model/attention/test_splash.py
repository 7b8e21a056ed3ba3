"""The TPU kernel in interpreted mode: sequences of several blocks, and a mesh."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.model import Layout
from ditfuse_jax.model.attention import attend, splash

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]

# 3 blocks of 128 keys; queries of the first slots attend to one of them.
LAYOUT = Layout(text=(60, 8, 20), grid=(8, 10))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(splash, "_BLOCK", 128)
    splash._kernel.cache_clear()
    yield
    splash._kernel.cache_clear()


def inputs(mask, heads=2, kv_heads=1, dim=96, batch=2):
    random = np.random.default_rng(0)
    q = random.standard_normal((batch, mask.num_queries, heads, dim)).astype("f4")
    k, v = random.standard_normal((2, batch, mask.num_keys, kv_heads, dim)).astype("f4")
    # Each row has its own padding in the text slots.
    token_valid = random.uniform(size=(batch, sum(LAYOUT.text))) < 0.5
    token_valid[:, 0] = True
    image_valid = np.ones((batch, LAYOUT.num_images), bool)
    condition = LAYOUT.condition_valid(jnp.asarray(token_valid), jnp.asarray(image_valid))
    draws = jnp.ones((batch, mask.num_keys - LAYOUT.condition_length), bool)
    return q, k, v, jnp.concatenate([condition, draws], axis=1)


@pytest.mark.parametrize("mask", [LAYOUT.full_mask, LAYOUT.draw_mask], ids=["full", "draw"])
def test_over_several_blocks_values_and_gradients_equal_the_reference(small_blocks, mask):
    q, k, v, valid = inputs(mask)

    @functools.partial(jax.jit, static_argnums=3)
    def run(q, k, v, name):
        def total(q, k, v):
            out = attend(q, k, v, mask, valid, implementation=name)
            return jnp.sum(jnp.sin(out)), out

        return jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)

    (_, ours), our_gradients = run(q, k, v, "splash")
    (_, theirs), their_gradients = run(q, k, v, "reference")
    np.testing.assert_allclose(ours, theirs, atol=3e-6)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6, rtol=2e-6)


def test_blocks_that_are_masked_out_are_skipped(small_blocks):
    kernel = splash._kernel(LAYOUT.full_mask, 2, True)
    runs = np.asarray(kernel.fwd_mask_info.block_mask)[0] > 0
    blocks = -(-LAYOUT.length // 128)
    dense = np.zeros((128 * blocks, 128 * blocks), bool)
    dense[: LAYOUT.length, : LAYOUT.length] = LAYOUT.full_mask.dense()
    dense[LAYOUT.length :, 0] = True
    needed = dense.reshape(blocks, 128, blocks, 128).any((1, 3))
    assert runs.sum() == needed.sum() < needed.size


@pytest.mark.processes
def test_on_a_mesh_batch_and_heads_stay_sharded():
    """See `splash_on_mesh.py`."""
    script = Path(__file__).parent / "splash_on_mesh.py"
    paths = [str(script.parents[3]), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    error, spec = run.stdout.strip().splitlines()[-1].split(maxsplit=1)
    assert float(error) < 3e-6
    assert spec == "(2, 11, 2, 4)"
