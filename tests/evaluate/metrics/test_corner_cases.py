"""Values where a formula divides by zero or a border is met, worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.evaluate.metrics import (
    batch_metrics,
    compute_metrics,
    compute_metrics_of_candidates,
)
from ditfuse_jax.evaluate.metrics.features import wavelet, wavelet_bands

pytestmark = pytest.mark.medium


def flat(level, side=24):
    return np.full((side, side, 3), level, np.uint8)


@pytest.mark.parametrize("name", ["Qc", "Qy"])
def test_flat_sources_count_half_each(name):
    """Similarity of flat images is 2 a b / (a^2 + b^2)."""
    to_a = 2 * 10 * 12 / (10**2 + 12**2)
    to_b = 2 * 20 * 12 / (20**2 + 12**2)
    found = compute_metrics(flat(12), [flat(10), flat(20)], names=[name])[name]
    assert found == pytest.approx((to_a + to_b) / 2, abs=1e-5)


@pytest.mark.parametrize("size", [(20, 25), (64, 63)])
def test_wavelet_bands_have_the_documented_size_and_the_energy_of_the_image(size):
    bands = wavelet_bands(jnp.ones((1, *size)))
    height, width = (2 * ((side + 61) // 2) for side in size)
    assert bands.shape == (1, height, width)
    # An orthogonal wavelet doubles the level of a flat image in two dimensions.
    np.testing.assert_allclose(bands[0, : height // 2, : width // 2], 2.0, atol=1e-3)
    np.testing.assert_allclose(bands[0, height // 2 :, width // 2 :], 0.0, atol=1e-3)


def test_wavelet_features_of_each_image_span_zero_to_one():
    rng = np.random.default_rng(0)
    dim, bright = rng.uniform(0, 10, (16, 18)), rng.uniform(100, 255, (16, 18))
    features = np.asarray(wavelet(jnp.asarray(np.stack([dim, bright]), jnp.float32)))
    np.testing.assert_allclose(features.min(axis=(1, 2)), 0.0, atol=1e-6)
    np.testing.assert_allclose(features.max(axis=(1, 2)), 1.0, atol=1e-6)


@pytest.mark.parametrize(("preset", "name"), [("vifb", "EN"), ("cddfuse", "PSNR")])
def test_a_preset_gives_each_candidate_its_own_value(preset, name, scene):
    candidates, sources = [scene("photo"), scene("flat90")], [scene("other"), scene("night")]
    together = compute_metrics_of_candidates(candidates, sources, names=[name], preset=preset)
    for i, candidate in enumerate(candidates):
        alone = compute_metrics(candidate, sources, names=[name], preset=preset)[name]
        assert together[name][i] == pytest.approx(alone, rel=1e-6)


def test_a_batch_gets_the_values_of_its_images():
    rng = np.random.default_rng(0)
    fused, clean = rng.integers(0, 256, (2, 2, 20, 24, 3), np.uint8)
    sources = rng.integers(0, 256, (2, 2, 20, 24, 3), np.uint8)
    names = ("PSNR_clean", "CC", "MSE")
    found = batch_metrics(fused, sources, clean, names=names)
    for i in range(2):
        alone = compute_metrics(fused[i], list(sources[i]), clean[i], names)
        for name in names:
            assert float(found[name][i]) == pytest.approx(alone[name], rel=1e-5), name


def test_contrast_sensitivity_at_high_frequencies_agrees_with_the_oracle(scene, oracle):
    fused, *sources = (scene(kind, 200, 240) for kind in ("photo", "other", "noise"))
    found = compute_metrics(fused, sources, names=["Qcb"])["Qcb"]
    grey = [oracle.grey(image) for image in sources]
    assert found == pytest.approx(oracle.scores(oracle.grey(fused), grey, ["Qcb"])["Qcb"], rel=1e-4)
