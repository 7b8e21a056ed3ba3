"""What must hold for any images: symmetries, limits, and what copying a source scores."""

import math

import numpy as np
import pytest

from ditfuse_jax.evaluate.metrics import METRICS, score, score_candidates, why_undefined

FUSION = [name for name, metric in METRICS.items() if metric.needs != "clean"]
SMALL = [name for name in FUSION if METRICS[name].smallest_side <= 43]
SLOW = ["MEFSSIM_multi", "VIFF", *(name for name in FUSION if name.startswith("FMI"))]
USUAL = [name for name in SMALL if name not in SLOW]


def close(value, rel=2e-5):
    return pytest.approx(value, rel=rel, abs=2e-6, nan_ok=True)


def test_the_order_of_the_sources_does_not_matter(scene):
    fused, a, b = scene("harsh"), scene("photo"), scene("other")
    one, other = score(fused, [a, b], names=USUAL), score(fused, [b, a], names=USUAL)
    assert {name: other[name] for name in USUAL} == {n: close(one[n]) for n in USUAL}


def test_values_are_never_undefined_without_a_reason(scene):
    kinds = ("photo", "night", "flat0", "flat255", "flat90")
    images = {kind: scene(kind) for kind in kinds}
    for a in kinds:
        for b in ("photo", "flat0"):
            scores = score_candidates(list(images.values()), [images[a], images[b]], names=USUAL)
            for name, values in scores.items():
                for kind, value in zip(kinds, values, strict=True):
                    told = why_undefined(name)
                    flat = [k for k in (a, b, kind) if k.startswith("flat")]
                    assert not math.isnan(value) or (told and (flat or name == "SCD")), (
                        f"{name} of {kind} from {a} and {b}"
                    )


def test_an_image_fused_from_itself_is_perfect(scene):
    image = scene("photo")
    scores = score(image, [image, image], names=USUAL)
    entropy = scores["EN"]
    perfect = {"MI": 2 * entropy, "NMI": 2, "CE": 0, "CC": 1, "MSE": 0, "RMSE": 0, "VIF": 2}
    perfect |= dict.fromkeys(("SSIM", "Qs", "Qw", "Qe", "Qc", "Qy", "Qcb", "Qp"), 1)
    perfect |= {"MEFSSIM": 1, "Qcv": 0, "Qm": 3, "Qsf": 0, "Nabf": 0, "Nabf_petrovic": 0}
    for name, value in perfect.items():
        assert scores[name] == close(value, 2e-5), name
    assert scores["PSNR"] == math.inf
    assert math.isnan(scores["SCD"]) and "equals" in why_undefined("SCD")


def test_a_shift_of_brightness_leaves_contrast_and_correlation(scene):
    fused, sources = scene("photo") // 2, [scene("other"), scene("noise")]
    names = ["EN", "SD", "SF", "AG", "MI", "NMI", "CC", "SCD", "Qte"]
    before, after = (score(x, sources, names=names) for x in (fused, fused + 60))
    assert after == {name: close(value) for name, value in before.items()}


def test_information_does_not_care_what_the_levels_are_called(scene):
    fused, sources = scene("photo"), [scene("other"), scene("noise")]
    fused = np.repeat(fused[..., :1], 3, axis=-1)
    names = ["EN", "MI", "NMI", "Qte", "Qte_nava", "Qncie"]
    before, after = (score(x, sources, names=names) for x in (fused, 255 - fused))
    assert after == {name: close(value) for name, value in before.items()}


def test_a_mirror_image_scores_alike(scene):
    images = [scene(kind) for kind in ("harsh", "photo", "other")]
    names = [
        "EN",
        "SD",
        "SF",
        "AG",
        "EI",
        "MI",
        "CC",
        "SCD",
        "MSE",
        "Qabf",
        "Nabf",
        "Qg",
        "Qsf",
        "SSIM",
        "MEFSSIM",
        "Qs",
        "Qw",
        "Qe",
        "Qc",
        "Qy",
    ]
    mirrored = [image[:, ::-1] for image in images]
    before, after = (score(x[0], x[1:], names=names) for x in (images, mirrored))
    assert after == {name: close(value) for name, value in before.items()}


def test_what_is_kept_lost_and_added_makes_one(scene):
    fused, sources = scene("harsh"), [scene("photo"), scene("noise")]
    scores = score(fused, sources, names=["Qabf_kumar", "Labf", "Nabf", "Nabf_petrovic"])
    assert scores["Qabf_kumar"] + scores["Labf"] + scores["Nabf"] == close(1)
    assert scores["Nabf_petrovic"] > scores["Nabf"]


def test_rmse_is_the_root_of_mse_and_psnr_its_logarithm(scene):
    scores = score(scene("photo"), [scene("other"), scene("night")], names=["MSE", "RMSE", "PSNR"])
    assert scores["RMSE"] ** 2 == close(scores["MSE"])
    assert scores["PSNR"] == close(20 * math.log10(255 / scores["RMSE"]))


def test_an_image_of_all_levels_alike_has_eight_bits():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert score(ramp, [ramp], names=["EN"])["EN"] == 8


def test_a_flat_image_holds_nothing(scene):
    scores = score(
        scene("flat90"), [scene("photo"), scene("noise")], names=["EN", "SD", "SF", "AG", "MI"]
    )
    assert set(scores.values()) == {0}


@pytest.mark.parametrize("name", ["SSIM", "MEFSSIM", "Qs", "Qc", "VIF", "Qabf", "Qcb", "FMI_pixel"])
def test_noise_lowers_quality(scene, name):
    a, b = scene("photo"), scene("other")
    base = np.round((a.astype(float) + b) / 2)
    noise = np.random.default_rng(0).normal(0, 1, a.shape)
    noisy = [np.clip(np.rint(base + s * noise), 0, 255).astype(np.uint8) for s in (0, 8, 30, 90)]
    values = score_candidates(noisy, [a, b], names=[name])[name]
    assert list(values) == sorted(values, reverse=True)
