"""Baselines: trivial fusions, and what tables call them."""

import numpy as np
import pytest

from ditfuse_jax.evaluate.baselines import BASELINES, is_baseline, mean_of_sources, method_title


def image(seed: int, shape: tuple[int, ...] = (9, 14, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("k", [2, 3])
def test_the_mean_of_sources_is_rounded_half_up_and_never_wraps(k):
    sources = [image(seed) for seed in range(k)]
    exact = np.mean(np.stack(sources).astype(np.float64), axis=0)
    np.testing.assert_array_equal(mean_of_sources(sources), np.floor(exact + 0.5))
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_array_equal(mean_of_sources([white] * k), white)


def test_baselines_compute_what_their_names_say():
    a, b = image(0), image(1)
    fused = {name: fuse([a, b]) for name, fuse in BASELINES.items()}
    np.testing.assert_array_equal(fused["copy_a"], a)
    np.testing.assert_array_equal(fused["copy_b"], b)
    np.testing.assert_array_equal(fused["max"], np.where(a > b, a, b))
    assert all(image.dtype == np.uint8 and image.shape == a.shape for image in fused.values())


def test_baselines_and_ceilings_are_distinguished_from_methods():
    assert is_baseline("copy_a") and is_baseline("autoencoder_of_clean")
    assert not is_baseline("fused")
    assert [method_title(name) for name in ("copy_a", "U2Fusion")] == ["copy A", "U2Fusion"]
