"""Rotary position embedding and the choice of LongRoPE's factors."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.rope import apply_rope, rope_tables

PLAIN = ModelConfig(
    preset="rope",
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=2,
    intermediate_size=16,
    vocab_size=8,
    text_slots=(1, 1, 1),
)
LONG = dataclasses.replace(
    PLAIN,
    rope_short_factor=(1.0, 1.5, 2.0, 2.5),
    rope_long_factor=(3.0, 4.0, 5.0, 6.0),
    original_max_position=32,
    max_position=128,
)


def expected_tables(config, positions, factors):
    """Computes cosine and sine of position / (factor * base^(2i/d)) in float64, as Phi-3."""
    dim = config.head_dim
    frequencies = 1 / (np.array(factors) * config.rope_theta ** (np.arange(0, dim, 2) / dim))
    angles = np.asarray(positions)[..., None] * frequencies
    return np.cos(angles), np.sin(angles)


def test_plain_tables_follow_the_formula():
    positions = jnp.array([[0, 1, 7, 100]])
    tables = rope_tables(PLAIN, positions, jnp.array([100]))
    for ours, expected in zip(tables, expected_tables(PLAIN, positions, [1.0] * 4), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("longest", "factors"), [(31, LONG.rope_short_factor), (32, LONG.rope_long_factor)]
)
def test_the_long_factors_apply_from_the_original_length_on(longest, factors):
    positions = jnp.array([[0, 3, 31]])
    # sqrt(1 + ln(128 / 32) / ln(32)) for both factors.
    scale = np.sqrt(1 + np.log(4) / np.log(32))
    tables = rope_tables(LONG, positions, jnp.array([longest]))
    for ours, expected in zip(tables, expected_tables(LONG, positions, factors), strict=True):
        np.testing.assert_allclose(ours, scale * expected, atol=1e-5)


def test_the_factors_of_each_row_depend_on_its_own_longest_position():
    positions = jnp.array([[0, 3, 31]] * 2)
    both, _ = rope_tables(LONG, positions, jnp.array([31, 32]))
    for row, longest in enumerate((31, 32)):
        alone, _ = rope_tables(LONG, positions[:1], jnp.array([longest]))
        np.testing.assert_array_equal(both[row], alone[0])
    assert not np.allclose(both[0], both[1])


def test_rotation_is_multiplication_by_a_complex_phase():
    x = np.random.default_rng(0).standard_normal((1, 3, 2, 8)).astype("f4")
    positions = jnp.array([[2, 5, 11]])
    cos, sin = rope_tables(PLAIN, positions, jnp.array([11]))
    # Phi-3 pairs dimension i with i + d/2.
    rotated = (x[..., :4] + 1j * x[..., 4:]) * (np.asarray(cos) + 1j * np.asarray(sin))[:, :, None]
    expected = np.concatenate([rotated.real, rotated.imag], axis=-1)
    np.testing.assert_allclose(apply_rope(jnp.asarray(x), cos, sin), expected, atol=1e-5)


def test_products_of_rotated_vectors_depend_on_the_distance_only():
    q, k = np.random.default_rng(0).standard_normal((2, 8)).astype("f4")

    def product(query_position, key_position):
        vectors = jnp.stack([q, k])[None, :, None]
        tables = rope_tables(PLAIN, jnp.array([[query_position, key_position]]), jnp.array([99]))
        rotated = apply_rope(vectors, *tables)[0, :, 0]
        return float(rotated[0] @ rotated[1])

    assert product(3, 1) == pytest.approx(product(42, 40), abs=1e-4)
    assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-2)
