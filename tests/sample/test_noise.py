"""The noise of any size is JAX's, drawn by few programs."""

import jax
import numpy as np
import pytest

from ditfuse_jax.sample.noise import padded_length, standard_normal


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (2, 9, 4, 3), (700, 801, 3)])
def test_it_is_what_jax_draws_for_the_shape(shape):
    for seed in (0, 3, 2**31 + 5, 2**32 - 1):
        key = jax.random.key(seed)
        np.testing.assert_array_equal(standard_normal(seed, shape), jax.random.normal(key, shape))
        folded = jax.random.normal(jax.random.fold_in(key, 1), shape)
        np.testing.assert_array_equal(standard_normal(seed, shape, 1), folded)


def test_it_is_what_jax_draws_where_every_value_depends_on_the_length():
    jax.config.update("jax_threefry_partitionable", False)
    try:
        expected = jax.random.normal(jax.random.key(3), (5, 7))
        np.testing.assert_array_equal(standard_normal(3, (5, 7)), expected)
    finally:
        jax.config.update("jax_threefry_partitionable", True)


def test_sizes_share_few_lengths_of_at_most_a_quarter_more():
    counts = [int(1.01**k) for k in range(1400, 1900)]
    lengths = [padded_length(count) for count in counts]
    assert all(
        count <= length <= 1.25 * count for count, length in zip(counts, lengths, strict=True)
    )
    octaves = np.log2(counts[-1] / counts[0])
    assert len(set(lengths)) <= 4 * octaves + 1
    assert len({padded_length(3 * side**2) for side in range(16, 590)}) == 1
