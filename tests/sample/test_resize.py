"""Resizing in NumPy equals JAX's."""

import tracemalloc

import jax
import numpy as np
import pytest

from ditfuse_jax.sample.resize import resize_linear

pytestmark = pytest.mark.medium


@pytest.mark.parametrize(
    ("old", "new"),
    [((64, 80), (20, 33)), ((20, 33), (64, 80)), ((64, 80), (70, 33)), ((9, 8), (9, 8))],
)
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_it_is_what_jax_computes(old, new, channels):
    images = np.random.default_rng(0).standard_normal((2, 1, *old, channels)).astype("f4")
    found = resize_linear(images, new)
    assert found.dtype == np.float32
    expected = jax.image.resize(images, (2, 1, *new, channels), "linear")
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_branches_that_share_their_images_are_resized_once():
    sources = np.ones((1, 2, 256, 256, 3), np.float32)
    branches = np.broadcast_to(sources, (3, *sources.shape))
    tracemalloc.start()
    found = resize_linear(branches, (64, 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, np.ones((3, 1, 2, 64, 64, 3)), atol=1e-6)
    assert peak < sources.nbytes  # the intermediate result is a quarter of it
