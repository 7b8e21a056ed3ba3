"""The baseline that M3's speed is measured against does what M3 does."""

import numpy as np
import pytest

from ditfuse_jax.bench import bench
from ditfuse_jax.bench.m3_baseline import write_views
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image, write_image


def test_each_view_of_the_baseline_is_mostly_clean_where_the_other_is_degraded(tmp_path):
    image = np.random.default_rng(0).integers(60, 200, (256, 256, 3), dtype=np.uint8)
    write_image(tmp_path / "x.png", image)
    clean, both = [], []
    for seed in range(8):
        write_views(tmp_path / "x.png", tmp_path, np.random.default_rng(seed))
        a, b = (read_image(tmp_path / f"x_{v}.png") for v in "ab")
        assert a.shape == b.shape == image.shape
        hit = [(view != image).any(axis=2) for view in (a, b)]
        clean.append((~hit[0] | ~hit[1]).mean())
        both.append((hit[0] & hit[1]).mean())
    assert 0.65 < np.mean(clean) < 0.95  # three quarters, and pixels that salt did not hit
    assert 0.05 < np.mean(both) < 0.4


def test_the_benchmark_reports_the_speedup_over_the_baseline(tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 256, (140, 150, 3), dtype=np.uint8)
    for name in "ab":
        write_image(tmp_path / f"{name}.png", image)
    words = [f"--config.data.mixture.photos.source={tmp_path}"]
    found = bench("m3", "nano_m3", words, repeats=1, as_json=True)
    assert found["files"] == 2
    assert found["speedup"] > 0
    assert found["images_per_second"] > 0


def test_a_source_of_pairs_is_refused(tmp_path):
    for side in ("image1", "image2"):
        write_image_in = tmp_path / side
        write_image_in.mkdir()
        write_image(write_image_in / "a.png", np.zeros((64, 64, 3), np.uint8))
    words = [f"--config.data.mixture.photos.source={tmp_path}"]
    with pytest.raises(UserError, match="does not consist of single image files"):
        bench("m3", "nano_m3", words, repeats=1)
