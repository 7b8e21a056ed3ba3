"""Every metric against an independent float64 oracle and against scikit-image."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS, score, score_candidates
from ditfuse_jax.evaluate.metrics.grey import luminance
from ditfuse_jax.evaluate.metrics.structural import mean_ssim
from ditfuse_jax.evaluate.metrics.windows import gaussian_window, local_moments

H, W = 47, 64  # odd and even; one size for most tests, so that one program is compiled


def scene(kind: str) -> np.ndarray:
    """A uint8 RGB image `(H, W, 3)`: smooth with noise, pure noise, flat or nearly black."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    if kind.startswith("flat"):
        return np.full((H, W, 3), int(kind[4:]), np.uint8)
    y, x = np.arange(H)[:, None, None], np.arange(W)[None, :, None]
    smooth = 120 + 80 * np.sin(x / 9 + np.arange(3)) * np.cos(y / 7)
    image = {
        "photo": smooth + rng.normal(0, 6, (H, W, 3)),
        "other": smooth[:, ::-1] * 0.7 + rng.normal(0, 3, (H, W, 3)),
        "noise": rng.integers(0, 256, (H, W, 3)),
        "night": rng.integers(0, 3, (H, W, 3)),
    }[kind]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


# The metrics once more, in float64 NumPy, written as the papers define them.


def oracle_grey(rgb):
    weights = np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
    return np.floor(rgb.astype(np.float64) @ weights + 0.5)


def oracle_entropy_of_counts(counts):
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def oracle_entropy(image):
    return oracle_entropy_of_counts(np.unique(image, return_counts=True)[1])


def oracle_mutual_information(fused, sources):
    def one(x):
        pairs = np.stack([x.ravel(), fused.ravel()])
        joint = oracle_entropy_of_counts(np.unique(pairs, axis=1, return_counts=True)[1])
        return oracle_entropy(x) + oracle_entropy(fused) - joint

    return sum(one(source) for source in sources)


def oracle_mse(a, b):
    return float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))


def oracle_psnr_of_mse(mse):
    return 10 * np.log10(255**2 / mse) if mse else math.inf


def oracle_psnr(a, b):
    return oracle_psnr_of_mse(oracle_mse(a, b))


def oracle_ssim(x, y):
    offsets = np.arange(11) - 5.0
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def mean(image):
        return np.einsum(
            "ijkl,kl->ij", np.lib.stride_tricks.sliding_window_view(image, (11, 11)), window
        )

    mx, my = mean(x), mean(y)
    vx, vy, c = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    local = (2 * mx * my + c1) * (2 * c + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(local.mean())


def oracle_scores(fused, sources, clean):
    """All metrics of the registry for uint8 RGB images."""
    f, xs, c = oracle_grey(fused), [oracle_grey(source) for source in sources], oracle_grey(clean)
    source_mse = float(np.mean([oracle_mse(f, x) for x in xs]))
    return {
        "psnr": oracle_psnr(fused, clean),
        "ssim": oracle_ssim(f, c),
        "en": oracle_entropy(f),
        "sd": float(f.std()),
        "mi": oracle_mutual_information(f, xs),
        "ssim_sources": float(np.mean([oracle_ssim(f, x) for x in xs])),
        "mse_sources": source_mse,
        "psnr_sources": oracle_psnr_of_mse(source_mse),
    }


@pytest.mark.parametrize(
    "fused, sources, clean",
    [
        ("photo", ("other", "noise"), "other"),
        ("photo", ("photo", "flat0"), "night"),
        ("noise", ("flat255", "photo"), "flat7"),
        ("flat200", ("photo", "other"), "photo"),
        ("flat0", ("flat255", "flat128"), "flat255"),
        ("night", ("photo", "night"), "noise"),
    ],
)
def test_every_metric_agrees_with_the_float64_oracle(fused, sources, clean):
    images = scene(fused), [scene(kind) for kind in sources], scene(clean)
    theirs = oracle_scores(*images)
    ours = score(*images)
    for name, value in theirs.items():
        # An SSIM or MI of nearly zero is a small difference of large terms: absolute there.
        assert ours[name] == pytest.approx(value, rel=1e-6, abs=2e-6), name


def test_psnr_and_ssim_agree_with_scikit_image():
    fused, clean = scene("photo"), scene("other")
    ours = score(fused, [clean, clean], clean)
    assert ours["psnr"] == pytest.approx(peak_signal_noise_ratio(clean, fused), rel=1e-6)
    f, c = oracle_grey(fused), oracle_grey(clean)
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255}
    local = np.asarray(structural_similarity(f, c, full=True, **options)[1])
    assert ours["ssim"] == pytest.approx(local[5:-5, 5:-5].mean(), abs=2e-6)  # whole windows


def test_identical_images_have_infinite_psnr_and_ssim_one():
    image = scene("photo")
    scores = score(image, [image, image], image)
    assert scores["psnr"] == scores["psnr_sources"] == math.inf
    assert scores["ssim"] == scores["ssim_sources"] == pytest.approx(1, abs=1e-6)
    assert scores["mse_sources"] == 0


def test_a_flat_image_holds_no_information():
    scores = score(scene("flat90"), [scene("photo"), scene("noise")], scene("photo"))
    assert (scores["en"], scores["sd"], scores["mi"]) == (0, 0, 0)


def test_information_shared_with_itself_is_the_entropy_per_source():
    image = scene("photo")
    scores = score(image, [image, image], image)
    assert scores["mi"] == pytest.approx(2 * scores["en"], rel=1e-6)


def test_an_image_of_all_levels_alike_has_eight_bits():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert score(ramp, [ramp], names=["en"])["en"] == 8


def test_one_level_in_one_channel_is_what_psnr_sees_first():
    clean = scene("photo")
    fused = clean.copy()
    fused[3, 4, 1] ^= 1
    expected = 10 * math.log10(255**2 * clean.size)
    assert score(fused, [clean, clean], clean)["psnr"] == pytest.approx(expected, rel=1e-6)


def test_luminance_rounds_every_colour_as_exact_arithmetic_does():
    level = np.arange(256, dtype=np.uint8)
    for red in (0, 1, 77, 128, 254, 255):
        green, blue = np.meshgrid(level, level, indexing="ij")
        rgb = np.stack([np.full_like(green, red), green, blue], axis=-1)
        np.testing.assert_array_equal(np.asarray(luminance(jnp.asarray(rgb))), oracle_grey(rgb))


def test_luminance_leaves_grey_images_unchanged():
    level = np.arange(256, dtype=np.uint8)
    rgb = np.stack([level] * 3, axis=-1)
    np.testing.assert_array_equal(np.asarray(luminance(jnp.asarray(rgb))), level)


def test_a_small_variance_survives_on_a_bright_background():
    image = np.full((30, 30), 250.0, np.float32)
    image[::2] += 1
    weights = gaussian_window(11, 1.5)
    variance = jax.jit(lambda x: local_moments(x, x, weights).variance_x)(image)
    p = weights[::2].sum()
    np.testing.assert_allclose(variance[0], p * (1 - p), rtol=1e-5)


def test_ssim_is_symmetric_and_falls_with_noise():
    clean = jnp.asarray(oracle_grey(scene("photo")), jnp.float32)
    noise = jnp.asarray(np.random.default_rng(0).normal(0, 1, clean.shape), jnp.float32)
    ssim = jax.jit(mean_ssim)
    values = [float(ssim(clean, jnp.round(clean + s * noise))) for s in (0, 4, 12, 40)]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(1, abs=1e-6)
    noisy = jnp.round(clean + 12 * noise)
    assert float(ssim(noisy, clean)) == pytest.approx(values[2], abs=1e-6)


def test_an_image_of_exactly_one_window_has_an_ssim():
    a, b = scene("photo")[:11, :11], scene("other")[:11, :11]
    expected = oracle_ssim(oracle_grey(a), oracle_grey(b))
    assert score(a, [b], b, ["ssim"])["ssim"] == pytest.approx(expected, abs=2e-6)


def test_more_than_two_sources_are_pooled():
    fused, sources = scene("photo"), [scene("other"), scene("noise"), scene("night")]
    expected = oracle_scores(fused, sources, fused)
    names = ["mi", "ssim_sources", "mse_sources"]
    for name, value in score(fused, sources, names=names).items():
        assert value == pytest.approx(expected[name], rel=2e-6), name


def test_candidates_scored_together_get_what_they_get_alone():
    candidates = [scene("photo"), scene("noise"), scene("flat9")]
    sources, clean = [scene("other"), scene("night")], scene("other")
    together = score_candidates(candidates, sources, clean)
    for i, candidate in enumerate(candidates):
        for name, value in score(candidate, sources, clean).items():
            assert together[name][i] == pytest.approx(value, rel=1e-6), name


def test_without_a_clean_image_only_fusion_metrics_are_given():
    names = set(score(scene("photo"), [scene("other"), scene("noise")]))
    assert names == {name for name, metric in METRICS.items() if metric.needs != "clean"}


def test_named_metrics_come_in_the_order_asked_for():
    assert list(score(scene("photo"), [scene("other")], names=["sd", "en"])) == ["sd", "en"]


def test_registry_keys_are_the_metrics_names_and_fit_for_json():
    assert all(key == metric.name == key.lower() for key, metric in METRICS.items())
    assert not {"images", "count", "run"} & set(METRICS)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda a: score(a, [a[:-1]]), "64x47 but source 1 is 64x46"),
        (lambda a: score(a, [a], a[:, :-2]), "the clean image is 62x47"),
        (lambda a: score(a[:10], [a[:10]]), "at least 11 pixels, got 64x10"),
        (lambda a: score(a, [a], names=["psnr"]), "'psnr' compares with a clean image"),
        (lambda a: score(a, [a], names=["ssmi"]), "unknown metric 'ssmi': choose from psnr, ssim"),
        (lambda a: score(a / 255.0, [a]), "expected a uint8 array"),
        (lambda a: score(a, []), "at least one fused image and one source"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call(scene("photo"))
    assert "\n" not in str(caught.value)


def test_small_images_can_be_scored_without_windows():
    a = scene("photo")[:5, :5]
    assert score(a, [a], names=["en", "sd", "mi"])["mi"] > 0
