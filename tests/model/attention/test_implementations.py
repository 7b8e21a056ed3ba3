"""All attention implementations compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import Layout
from ditfuse_jax.model.attention import IMPLEMENTATIONS, attend, cpu, xla

pytestmark = [pytest.mark.usefixtures("exact_products"), pytest.mark.medium]

# `xla` selects one of its two formulations by device and size.
EVERY = dict(IMPLEMENTATIONS) | {"xla batched": xla.attend_batched, "xla on a CPU": cpu.attend}
LAYOUT = Layout(text=(4, 3, 2), grid=(2, 3), draws=2)
# As many queries as keys, and fewer queries than keys.
MASKS = {"full": LAYOUT.full_mask, "draw": LAYOUT.draw_mask}
# (query heads, key heads, head dimension)
HEADS = {"grouped": (6, 2, 8), "one to one": (2, 2, 96), "one key head": (3, 1, 4)}


def arrays(mask, heads, seed=0):
    """Returns random queries, keys, values and key validity."""
    num_heads, kv_heads, dim = heads
    random = np.random.default_rng(seed)
    q, k, v = (
        random.standard_normal((2, length, count, dim)).astype("f4")
        for length, count in (
            (mask.num_queries, num_heads),
            (mask.num_keys, kv_heads),
            (mask.num_keys, kv_heads),
        )
    )
    valid = random.uniform(size=(2, mask.num_keys)) < 0.7
    valid[:, 0] = True  # every query has at least one valid key
    return q, k, v, valid


def exact_attention(q, k, v, allowed):
    """Computes softmax(q k^T / sqrt(d)) v, one query and head at a time, in float64."""
    out = np.zeros(q.shape)
    group = q.shape[2] // k.shape[2]
    for batch, query, head in np.ndindex(q.shape[:3]):
        keys = allowed[batch, query]
        scores = k[batch, keys, head // group].astype(float) @ q[batch, query, head]
        weights = np.exp(scores / np.sqrt(q.shape[-1]))
        out[batch, query, head] = weights / weights.sum() @ v[batch, keys, head // group]
    return out


@pytest.mark.parametrize("implementation", sorted(EVERY))
@pytest.mark.parametrize("mask", sorted(MASKS))
@pytest.mark.parametrize("heads", sorted(HEADS))
def test_attention_is_the_softmax_of_scaled_products_over_allowed_valid_keys(
    models, implementation, mask, heads
):
    mask = MASKS[mask]
    q, k, v, valid = arrays(mask, HEADS[heads])
    run = models.jit(lambda *x: EVERY[implementation](*x[:3], mask, x[3]))
    expected = exact_attention(q, k, v, mask.dense() & valid[:, None])
    np.testing.assert_allclose(run(q, k, v, valid), expected, atol=2e-6)


@pytest.mark.parametrize("implementation", sorted(set(EVERY) - {"reference"}))
def test_gradients_equal_those_of_the_reference(models, implementation):
    mask = LAYOUT.full_mask
    q, k, v, valid = arrays(mask, HEADS["grouped"])
    weights = np.random.default_rng(1).standard_normal(q.shape).astype("f4")

    def gradients(name):
        def total(q, k, v):
            return jnp.sum(weights * EVERY[name](q, k, v, mask, valid))

        return models.jit(jax.grad(total, argnums=(0, 1, 2)))(q, k, v)

    for ours, theirs in zip(gradients(implementation), gradients("reference"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6)


@pytest.mark.parametrize("implementation", sorted(EVERY))
def test_queries_without_a_valid_key_give_finite_results_and_gradients(models, implementation):
    mask = LAYOUT.condition_mask
    q, k, v, valid = arrays(mask, HEADS["grouped"])
    valid[:, :3] = False  # padding before the first token
    seen = (mask.dense() & valid[:, None]).any(-1)
    assert not seen.all()

    def total(q, k, v):
        out = EVERY[implementation](q, k, v, mask, valid)
        return jnp.sum(jnp.where(seen[:, :, None, None], out, 0.0)), out

    run = models.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))
    (_, out), gradients = run(q, k, v)
    assert all(np.isfinite(x).all() for x in (out, *gradients))


@pytest.mark.parametrize("implementation", sorted(EVERY))
@pytest.mark.parametrize("dim", [4, 96])
def test_scores_of_bfloat16_inputs_are_not_rounded_before_the_softmax(models, implementation, dim):
    if (implementation, dim) == ("splash", 96):
        pytest.skip("splash scales the queries first, exactly only if dim is a power of 4")
    mask = LAYOUT.draw_mask
    q, k, v, valid = arrays(mask, (2, 1, dim))
    # Scores near 100 with small differences, which rounding to bfloat16 would remove or invert.
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in (10 * q, 10 * k, v))
    out = models.jit(lambda *x: EVERY[implementation](*x, mask, valid))(q, k, v)
    float32 = (np.asarray(x, "f4") for x in (q, k, v))
    exact = exact_attention(*float32, mask.dense() & valid[:, None])
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, "f4"), exact, atol=0.03)


@pytest.mark.parametrize("implementation", sorted(EVERY))
def test_the_values_of_padding_have_no_effect_and_no_gradient(models, implementation):
    mask = LAYOUT.full_mask
    q, k, v, valid = arrays(mask, HEADS["grouped"])
    pad = ~valid[:, :, None, None]

    def total(q, k, v):
        out = EVERY[implementation](q, k, v, mask, valid)
        return jnp.sum(out**2), out

    run = models.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))
    (_, out), (_, dk, dv) = run(q, k, v)
    (_, changed), _ = run(q, np.where(pad, 50 - k, k), np.where(pad, -1e3 * v, v))
    np.testing.assert_array_equal(out, changed)
    for gradient in (dk, dv):
        np.testing.assert_array_equal(np.where(pad, gradient, 0.0), 0.0)
        assert np.any(gradient)


def test_an_unknown_implementation_is_refused_with_the_known_names():
    q, k, v, valid = arrays(LAYOUT.full_mask, HEADS["grouped"])
    with pytest.raises(UserError, match=r"'cudn'.*reference, xla, splash, cudnn"):
        attend(q, k, v, LAYOUT.full_mask, valid, implementation="cudn")
