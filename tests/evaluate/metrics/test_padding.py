"""Images are padded to few sizes, so that images of many sizes share programs."""

import functools
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from ditfuse_jax.evaluate.metrics import (
    METRIC_PRESETS,
    METRICS,
    compute,
    compute_metrics,
    compute_metrics_of_candidates,
    register_metric,
)
from ditfuse_jax.evaluate.metrics.borders import extended
from ditfuse_jax.evaluate.metrics.buckets import SIDES, bucket
from ditfuse_jax.evaluate.metrics.grey import (
    luminance,
    luminance_in_numpy,
    stretched,
    stretched_in_numpy,
)

pytestmark = pytest.mark.medium

# Each border, several scales, and Fourier transforms; quick to compile.
SOME = ("EN", "AG", "EI", "Qabf_kumar", "Qm", "Qcb", "Qcv", "PSNR_clean")
# Relative.  A place where a threshold is just met may fall on its other side.
LOOSER = {"Qp": 1e-4, "Qy": 1e-4}


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """One entry for each program that XLA compiles or loads from the cache."""
    events = []

    def record(event: str, seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(record)
    yield events
    jax.monitoring.unregister_event_duration_listener(record)


@pytest.fixture
def small_buckets(monkeypatch) -> None:
    monkeypatch.setattr("ditfuse_jax.evaluate.metrics.buckets.SIDES", (32, 64, 192, 256))


@pytest.fixture
def compare(scene, monkeypatch):
    """Returns metrics whose values change with padding, of images of a size."""

    def run(names, height, width, preset="canonical"):
        fused, a, b, other = (
            scene(kind, height, width) for kind in ("photo", "other", "noise", "harsh")
        )
        score = functools.partial(
            compute_metrics_of_candidates, [fused, other], [a, b], a, names, preset
        )
        padded = score()
        with monkeypatch.context() as patch:
            patch.setattr(compute, "_can_pad", lambda *_: False)
            whole = score()
        return {
            name: (padded[name], whole[name])
            for name in names
            if not np.allclose(padded[name], whole[name], LOOSER.get(name, 1e-5), 1e-7, True)
        }

    return run


@pytest.mark.parametrize("height, width", [(32, 31), (33, 32)])
def test_padding_does_not_change_scores(compare, small_buckets, height, width):
    assert compare(SOME, height, width) == {}


@pytest.mark.slow
@pytest.mark.parametrize("height, width", [(192, 192), (191, 193), (193, 191), (161, 170)])
@pytest.mark.parametrize("preset", METRIC_PRESETS)
def test_padding_changes_no_metric_of_any_preset(compare, small_buckets, preset, height, width):
    names = [name for name, metric in METRICS.items() if metric.needs != "host"]
    if preset != "canonical":
        names = [name for name in METRIC_PRESETS[preset].changed if name in METRICS]
    assert compare(names, height, width, preset) == {}


def test_every_metric_here_ignores_padding():
    assert all(metric.padded for metric in METRICS.values() if metric.needs != "host")


def test_a_new_size_in_the_same_bucket_compiles_nothing(scene, small_buckets, compiled):
    names = [*SOME[:-1], "Qp", "FMI_dct", "FMI_gradient"]

    def score(height, width):
        return compute_metrics(
            scene("photo", height, width), [scene("other", height, width)], names=names
        )

    first = score(57, 63)
    programs = len(compiled)
    assert programs > 0
    for size in [(33, 64), (64, 33), (47, 53)]:
        assert score(*size) != first
    assert len(compiled) == programs
    score(65, 63)
    assert len(compiled) > programs


def test_a_metric_of_an_extension_sees_images_without_padding(scene, monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._known()))
    sizes = []

    @register_metric("ROWS_OF_THE_TEST", needs="fused")
    def rows(images):
        sizes.append(images.fused.shape)
        return images.fused[0].mean(axis=(-2, -1))

    image = scene("photo", 43, 50)
    compute_metrics(image, [image], names=["ROWS_OF_THE_TEST", "EN"])
    assert sizes == [(1, 1, 43, 50)]


def test_buckets_hold_the_image_and_are_at_most_about_twice_as_long():
    for side in (1, *SIDES, *(side + 1 for side in SIDES), 20_000):
        height, width = bucket((side, 128))
        assert side <= height and height % 32 == 0 and width == 128
        assert side < 128 or height < 2.2 * side


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric"])
def test_borders_of_padded_images_are_those_of_numpy(mode):
    image = np.arange(1, 57, dtype=np.float32).reshape(1, 7, 8)
    padded = np.pad(image, [(0, 0), (0, 4), (0, 9)])
    found = extended(padded, 3, mode, (np.int32(7), np.int32(8)))
    expected = np.pad(image, [(0, 0), (3, 3), (3, 3)], mode=mode)
    np.testing.assert_array_equal(np.asarray(found)[:, :13, :14], expected)


def test_grey_levels_in_numpy_are_those_in_jax():
    rgb = np.random.default_rng(0).integers(0, 256, (2, 50, 40, 3)).astype(np.uint8)
    rgb[1, ..., 1:] = rgb[1, ..., :1] // 2 + 40
    grey = luminance_in_numpy(rgb)
    np.testing.assert_array_equal(grey, luminance(rgb))
    np.testing.assert_array_equal(stretched_in_numpy(grey), stretched(luminance(rgb)))
