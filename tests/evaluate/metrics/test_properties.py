"""Properties of metrics for any images: symmetries and limits."""

import math

import numpy as np
import pytest

from ditfuse_jax.evaluate.metrics import METRICS, compute_metrics, compute_metrics_of_candidates

pytestmark = pytest.mark.medium

# A mirror turns edges where an orientation jumps from one end of its range to the other, moves the
# pixels that VIF keeps from scale to scale, and the blocks at the border; coarse to fine likewise.
NOT_MIRRORED = {"Qabf", "VIF", "VIFF", "Qcv", "Qm", "MEFSSIM_multi"}


def close(values, rel=2e-5):
    return pytest.approx(values, rel=rel, abs=2e-6, nan_ok=True)


@pytest.mark.slow
def test_the_order_of_the_sources_does_not_matter(score_five):
    fused = ("harsh", "photo", "noise", "night")
    one, other = score_five(fused, ("photo", "other")), score_five(fused, ("other", "photo"))
    for name in set(one) - {"VIFF"}:  # which gives places of equal gains to the last source
        assert list(other[name]) == close(list(one[name])), name


@pytest.mark.parametrize("a", ["photo", "night", "flat0", "flat255"])
@pytest.mark.parametrize("b", ["photo", "flat90"])
def test_values_are_nan_only_for_a_documented_reason(score_five, a, b):
    fused = ("photo", "night", "flat0", "flat255", "harsh")
    for name, values in score_five(fused, (a, b)).items():
        for kind, value in zip(fused, values, strict=True):
            if math.isnan(value):
                assert METRICS[name].nan_when, name
                assert name == "SCD" or any(k.startswith("flat") for k in (a, b, kind)), name


def test_an_image_fused_from_itself_is_perfect(score_five):
    scores = {name: values[0] for name, values in score_five(["photo"], ["photo"] * 2).items()}
    perfect = {"MI": 2 * scores["EN"], "NMI": 2, "CE": 0, "CC": 1, "MSE": 0, "RMSE": 0, "VIF": 2}
    perfect |= dict.fromkeys(("SSIM", "MEFSSIM", "Qs", "Qw", "Qe", "Qc", "Qy", "Qcb"), 1)
    perfect |= {"Qcv": 0, "Qm": 3, "Qsf": 0, "Nabf": 0, "Nabf_petrovic": 0}
    assert {name: scores[name] for name in perfect} == close(perfect)
    assert scores["PSNR"] == math.inf
    assert math.isnan(scores["SCD"]) and "equals" in METRICS["SCD"].nan_when
    assert 0.95 < scores["Qp"] < 1  # the sources' weak features are ignored, those of F are not


def test_a_shift_of_brightness_does_not_change_contrast_and_correlation(score_five, scene):
    dark = scene("photo") // 2
    scores = score_five([dark, dark + 60], ["other", "noise"])
    for name in ("EN", "SD", "SF", "AG", "MI", "NMI", "CC", "SCD", "Qte"):
        assert scores[name][1] == close(scores[name][0]), name


def test_information_is_invariant_to_a_permutation_of_levels(score_five, scene):
    grey = np.repeat(scene("photo")[..., :1], 3, axis=-1)
    scores = score_five([grey, 255 - grey], ["other", "noise"])
    for name in ("EN", "MI", "NMI", "Qte", "Qte_nava", "Qncie"):
        assert scores[name][1] == close(scores[name][0]), name


def test_a_mirror_image_has_the_same_scores(score_five, scene):
    images = [scene(kind) for kind in ("harsh", "photo", "other")]
    mirrored = [image[:, ::-1] for image in images]
    before, after = (score_five(x[:1], x[1:]) for x in (images, mirrored))
    for name in set(before) - NOT_MIRRORED:
        assert after[name][0] == close(before[name][0], 1e-4), name


def test_preserved_lost_and_added_information_sum_to_one(score_five):
    scores = score_five(["harsh", "noise", "night"], ["photo", "noise"])
    total = scores["Qabf_kumar"] + scores["Labf"] + scores["Nabf"]
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert (scores["Nabf_petrovic"] >= scores["Nabf"]).all()


def test_rmse_is_the_root_of_mse_and_psnr_its_logarithm(score_five):
    scores = score_five(["photo", "flat0"], ["other", "night"])
    np.testing.assert_allclose(scores["RMSE"] ** 2, scores["MSE"], rtol=1e-5)
    np.testing.assert_allclose(scores["PSNR"], 20 * np.log10(255 / scores["RMSE"]), rtol=1e-5)


def test_a_uniform_histogram_has_eight_bits():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert compute_metrics(ramp, [ramp], names=["EN"])["EN"] == 8


def test_a_flat_image_has_no_information(score_five):
    scores = score_five(["flat90"], ["photo", "noise"])
    assert {scores[name][0] for name in ("EN", "SD", "SF", "AG", "MI", "Qte")} == {0}


def test_noise_lowers_quality(scene):
    a, b = scene("photo"), scene("other")
    base, noise = (a.astype(float) + b) / 2, np.random.default_rng(0).normal(0, 1, a.shape)
    noisy = [np.clip(np.rint(base + s * noise), 0, 255).astype(np.uint8) for s in (0, 8, 30, 90)]
    for name, values in compute_metrics_of_candidates(
        noisy, [a, b], names=["SSIM", "Qs", "FMI_pixel"]
    ).items():
        assert list(values) == sorted(values, reverse=True), name
