"""Presets differ from the canonical form exactly as the published codes do."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from ditfuse_jax.evaluate.metrics import METRIC_PRESETS, compute_metrics

pytestmark = pytest.mark.medium


@pytest.fixture
def images(scene):
    """A fused image that spans 0..255, with levels 254 and 255, and two sources."""
    fused = scene("photo")
    fused[0, 0], fused[0, 1], fused[5:9, 5:9], fused[9:12, 5:9] = 0, 255, 254, 255
    return fused, scene("other"), scene("harsh")


@pytest.fixture
def grey(images, oracle):
    return [oracle.grey(image) for image in images]


def in_colour(image):
    return np.ptp(image, axis=-1).max() > 0


def test_presets_change_only_the_metrics_of_the_published_codes():
    changed = {name: set(preset.changed) for name, preset in METRIC_PRESETS.items()}
    linfeng = {"MI", "SF", "MSE", "PSNR", "SSIM", "MSSSIM", "FMI_pixel"}
    assert changed == {
        "canonical": set(),
        "linfeng": linfeng,
        "linfeng-uint8": linfeng | {"SD", "VIF"},
        "cddfuse": {"MI", "SSIM", "PSNR", "AG"},
        "vifb": {"MI", "SSIM", "SF", "RMSE", "PSNR"},
    }
    assert [name for name, preset in METRIC_PRESETS.items() if preset.stretches] == ["cddfuse"]
    assert [name for name, preset in METRIC_PRESETS.items() if preset.by_channel] == ["vifb"]


def test_linfeng(images, grey, oracle):
    fused, *sources = images
    f, xs = grey[0], grey[1:]
    names = ["MI", "SF", "MSE", "PSNR", "SSIM", "MSSSIM", "FMI_pixel", "SD"]
    canonical = compute_metrics(
        fused, sources, names=["SF", "MSE", "PSNR", "MEFSSIM_multi", "FMI_edge", "SD"]
    )
    ours = compute_metrics(fused, sources, names=names, preset="linfeng")
    assert ours["SF"] == pytest.approx(canonical["SF"] / 255, rel=1e-6)
    assert ours["MSE"] == pytest.approx(canonical["MSE"] / 255**2, rel=1e-6)
    assert ours["PSNR"] == pytest.approx(canonical["PSNR"] + 48.1308, rel=1e-6)
    assert ours["MSSSIM"] == pytest.approx(canonical["MEFSSIM_multi"], rel=1e-6)
    assert ours["FMI_pixel"] == pytest.approx(canonical["FMI_edge"], rel=1e-6)
    assert ours["SD"] == canonical["SD"]

    def merged(image):
        return np.where(image == 255, 254, image)

    mi = sum(
        oracle.entropy(x) + oracle.entropy(f) - oracle.bits(oracle.joint(merged(x), merged(f)))
        for x in xs
    )
    assert ours["MI"] == pytest.approx(mi, rel=2e-6)
    assert ours["MI"] > oracle.mutual_information(f, xs) + 1e-3
    ssim = [
        oracle.ssim_map(np.pad(x, 5, "edge"), np.pad(f, 5, "edge"), c1=1e-4, c2=9e-4).mean()
        for x in xs
    ]
    assert ours["SSIM"] == pytest.approx(np.mean(ssim), abs=2e-6)


def test_linfeng_on_8_bit_integers(images, grey, oracle):
    fused, *sources = images
    f = grey[0]
    ours = compute_metrics(fused, sources, names=["SD", "VIF", "SF"], preset="linfeng-uint8")
    assert ours["SF"] == pytest.approx(oracle.spatial_frequency(f) / 255, rel=1e-6)
    difference = np.clip(np.rint(f - f.mean()), 0, 255)  # uint8 less a double is uint8
    assert ours["SD"] == pytest.approx(math.sqrt(np.minimum(difference**2, 255).mean()), rel=1e-6)
    assert ours["SD"] < math.sqrt(255) < f.std()

    def saturated_vif(x, y):
        window = oracle.gaussian(17, 17 / 5)

        def mean(image):
            return oracle.filtered(image, window)

        mx, my = mean(x), mean(y)
        vx = np.maximum(mean(np.minimum(x * x, 255)) - mx * mx, 0)
        vy = np.maximum(mean(np.minimum(y * y, 255)) - my * my, 0)
        c = mean(np.minimum(x * y, 255)) - mx * my
        flat = (vx < 1e-6) | (vy < 1e-6)
        g = np.where(flat, 0, np.maximum(c / np.where(flat, 1, vx), 0))
        rest = np.maximum(vy - g * c, 1e-10)
        kept = [np.log10(1 + g * g * vx / (rest + 2)).sum()]
        there = [np.log10(1 + vx / 2).sum()]
        for i, (k, t, _) in enumerate(oracle.vif_scales(x, y, 2.0)):
            if i:
                kept.append(k.sum())
                there.append(t.sum())
        return sum(kept) / sum(there)

    expected = sum(saturated_vif(x, f) for x in grey[1:])
    assert ours["VIF"] == pytest.approx(expected, rel=1e-4)


def test_cddfuse(images, grey):
    fused, *sources = images
    f, xs = grey[0], grey[1:]
    assert f.min() == 0 and f.max() == 255  # so that stretching does nothing
    canonical = compute_metrics(fused, sources, names=["MI", "AG", "PSNR", "VIF", "Qabf", "SD"])
    ours = compute_metrics(fused, sources, names=[*canonical, "SSIM"], preset="cddfuse")
    for name in ("VIF", "Qabf", "SD", "PSNR"):  # the peak is 255 here
        assert ours[name] == pytest.approx(canonical[name], rel=1e-6), name
    assert ours["MI"] == pytest.approx(canonical["MI"] * math.log(2), rel=1e-6)
    height, width = f.shape
    share = (height - 1) * (width - 1) / (height * width)
    assert ours["AG"] == pytest.approx(canonical["AG"] * share, rel=1e-6)
    ssim = sum(structural_similarity(f, x, data_range=2) for x in xs)
    assert ours["SSIM"] == pytest.approx(ssim, abs=5e-6)


def test_cddfuse_stretches_the_fused_image_first(scene, oracle):
    fused, sources = scene("other"), [scene("photo"), scene("harsh")]
    stretched = oracle.stretched(oracle.grey(fused)).astype(np.uint8)
    names = ["SD", "CC", "PSNR"]
    ours = compute_metrics(fused, sources, names=names, preset="cddfuse")
    by_hand = compute_metrics(np.stack([stretched] * 3, axis=-1), sources, names=names)
    assert ours == {name: pytest.approx(value, rel=1e-6) for name, value in by_hand.items()}
    assert ours["SD"] > 1.05 * compute_metrics(fused, sources, names=["SD"])["SD"]


def test_vifb(images, oracle):
    fused, *sources = images
    assert in_colour(fused)
    names = ["EN", "SD", "AG", "Qabf", "CE", "MI", "SSIM", "SF", "RMSE", "PSNR"]
    ours = compute_metrics(fused, sources, names=names, preset="vifb")
    channels = [[image[..., c].astype(np.float64) for image in images] for c in range(3)]

    def channel_mean(function):
        return np.mean([function(c[0], c[1:]) for c in channels])

    for name in ("EN", "SD", "AG", "Qabf", "CE"):
        assert ours[name] == pytest.approx(channel_mean(oracle.METRICS[name]), rel=2e-6), name
    mi = channel_mean(
        lambda f, xs: oracle.mutual_information(oracle.stretched(f), map(oracle.stretched, xs))
    )
    assert ours["MI"] == pytest.approx(mi * math.log(2), rel=2e-6)
    assert ours["SSIM"] == pytest.approx(2 * channel_mean(oracle.source_ssim), rel=2e-6)

    def divided(f, xs):
        return np.mean([np.sqrt(((f - x) ** 2).sum()) / f.size for x in xs])

    assert ours["RMSE"] == pytest.approx(channel_mean(divided), rel=2e-6)
    psnr = channel_mean(lambda f, xs: 20 * np.log10(255 / np.sqrt(divided(f, xs))))
    assert ours["PSNR"] == pytest.approx(psnr, rel=2e-6)
    matrix = np.concatenate([c[0] for c in channels], axis=1)
    frequency = sum((np.diff(matrix, axis=axis) ** 2).sum() for axis in (0, 1)) / matrix.size
    assert ours["SF"] == pytest.approx(np.sqrt(frequency), rel=2e-6)


def test_vifb_treats_a_grey_image_as_one_matrix(images, grey, oracle):
    fused = np.stack([grey[0].astype(np.uint8)] * 3, axis=-1)
    ours = compute_metrics(fused, images[1:], names=["SF"], preset="vifb")["SF"]
    f = grey[0]
    frequency = sum((np.diff(f, axis=axis) ** 2).sum() for axis in (0, 1)) / f.size
    assert ours == pytest.approx(np.sqrt(frequency), rel=2e-6)
