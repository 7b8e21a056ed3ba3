"""Resizing in NumPy equals JAX's."""

import jax
import numpy as np
import pytest

from ditfuse_jax.sample.resize import resize_linear

pytestmark = pytest.mark.medium


@pytest.mark.parametrize(
    ("old", "new"),
    [((64, 80), (20, 33)), ((20, 33), (64, 80)), ((64, 80), (70, 33)), ((9, 8), (9, 8))],
)
def test_it_is_what_jax_computes(old, new):
    images = np.random.default_rng(0).standard_normal((2, 1, *old, 3)).astype("f4")
    found = resize_linear(images, new)
    assert found.dtype == np.float32
    expected = jax.image.resize(images, (2, 1, *new, 3), "linear")
    np.testing.assert_allclose(found, expected, atol=2e-5)
