"""Every metric against an independent float64 oracle, on ordinary and degenerate images."""

import math

import jax
import numpy as np
import pytest

from ditfuse_jax.evaluate.metrics import METRICS, compute_metrics
from ditfuse_jax.evaluate.metrics.features import wavelet_bands

pytestmark = pytest.mark.medium

# Relative.  Values below 0.1 are small differences of larger terms and may be off by a tenth of it.
TOLERANCE = 2e-6
LOOSER = {
    "VIF": 1e-4,
    "VIFF": 1e-5,
    "Qcb": 1e-3,  # ratios of contrasts that are themselves differences of nearly equal numbers
    "Qp": 1e-4,
    "Qy": 1e-4,  # a place where the sources are just alike enough may fall on the other side
    "FMI_dct": 1e-3,  # the smallest of the coefficients have few digits
}
FMI = [name for name in METRICS if name.startswith("FMI")]


def agrees(name: str, ours: float, theirs: float) -> bool:
    if math.isnan(theirs):
        return math.isnan(ours) and METRICS[name].nan_when != ""
    tolerance = LOOSER.get(name, TOLERANCE)
    return ours == pytest.approx(theirs, rel=tolerance, abs=0.1 * tolerance)


@pytest.fixture
def compare(oracle):
    """Scores with both and returns those that disagree."""

    def run(fused, sources, names):
        ours = compute_metrics(fused, sources, names=names)
        theirs = oracle.scores(oracle.grey(fused), [oracle.grey(x) for x in sources], names)
        return {n: (ours[n], theirs[n]) for n in names if not agrees(n, ours[n], theirs[n])}

    return run


@pytest.mark.parametrize(
    "fused, a, b",
    [
        (("photo", "harsh", "flat200"), "other", "noise"),
        (("photo", "night"), "photo", "flat0"),
        (("photo",), "photo", "photo"),
        (("harsh",), "harsh", "night"),
        (("flat0", "noise"), "flat255", "flat128"),
    ],
)
def test_every_metric_agrees_with_the_oracle(score_five, oracle, scene, fused, a, b):
    scores = score_five(fused, (a, b))
    sources = [oracle.grey(scene(kind)) for kind in (a, b)]
    for i, kind in enumerate(fused):
        theirs = oracle.scores(oracle.grey(scene(kind)), sources, list(scores))
        for name, value in theirs.items():
            ours = float(scores[name][i])
            assert agrees(name, ours, value), f"{name} of {kind}: {ours}, oracle {value}"


@pytest.mark.parametrize(
    "side, names",
    [
        (8, ["EN", "AG", "Qabf", "Nabf", "Qsf", "Qm", "Qc", "Qy", "Qcb", "Qcv", "Qp"]),
        (11, ["SSIM", "MEFSSIM", "Qs", "Qw", "Qe"]),
    ],
)
def test_metrics_whose_windows_fit_small_images_agree_with_the_oracle(scene, compare, side, names):
    fused, *sources = (scene(kind, side, side) for kind in ("photo", "other", "noise"))
    assert compare(fused, sources, names) == {}


def test_multiscale_ssim_agrees_with_the_oracle(scene, compare):
    fused, *sources = (scene(kind, 161, 175) for kind in ("photo", "other", "noise"))
    assert compare(fused, sources, ["MSSSIM"]) == {}
    assert compare(sources[0], sources, ["MSSSIM"]) == {}


@pytest.mark.parametrize(
    "fused, a, b",
    [("photo", "other", "noise"), ("harsh", "photo", "harsh"), ("night", "night", "photo")],
)
def test_feature_mutual_information_agrees_with_the_oracle(scene, compare, oracle, fused, a, b):
    images = [scene(kind, 13, 18) for kind in (fused, a, b)]
    assert compare(images[0], images[1:], [n for n in FMI if n in oracle.METRICS]) == {}


def test_the_wavelet_nearly_keeps_the_energy_and_separates_the_bands():
    bands = jax.jit(wavelet_bands)
    patch = np.zeros((1, 180, 180), np.float32)  # far from the borders, which are mirrored
    patch[0, 80:100, 80:100] = np.random.default_rng(0).normal(size=(20, 20))
    energy = np.square(np.asarray(bands(patch), np.float64)).sum()
    assert energy == pytest.approx(np.square(patch.astype(np.float64)).sum(), rel=0.01)

    stripes = np.tile(np.float32([1, -1]), (1, 180, 90))  # varying along x
    high = np.asarray(bands(stripes), np.float64)[0]
    half = high.shape[0] // 2
    assert np.square(high[half:, :half]).sum() > 0.97 * np.square(high).sum()
    flat = np.asarray(bands(np.ones((1, 180, 180), np.float32)))[0]
    np.testing.assert_allclose(flat[:half, :half], 2, rtol=1e-5)


def test_three_sources_are_pooled(scene, compare, oracle):
    fused, sources = scene("photo"), [scene("other"), scene("noise"), scene("night")]
    pooled = ["MI", "NMI", "CE", "CC", "MSE", "Qabf", "Nabf", "Qm", "Qsf", "SSIM", "Qcv", "Qncie"]
    assert compare(fused, sources, pooled) == {}
