"""Baselines, means over images and the terminal's table."""

import math

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS, score
from ditfuse_jax.evaluate.scores import (
    BASELINES,
    Example,
    Results,
    best_methods,
    format_row,
    mean_of_sources,
    score_methods,
    text_table,
)

NAMES = ["PSNR_clean", "EN", "MSE"]  # no windows: quick to compile


def image(seed: int, shape: tuple[int, ...] = (9, 14, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def example(stem: str, seed: int = 0, clean: bool = True) -> Example:
    sources = [image(seed), image(seed + 1)]
    return Example(stem, sources, {"fused": image(seed + 2)}, image(seed + 3) if clean else None)


@pytest.mark.parametrize("k", [2, 3])
def test_the_mean_of_sources_is_rounded_half_up_and_never_wraps(k):
    sources = [image(seed) for seed in range(k)]
    exact = np.mean(np.stack(sources).astype(np.float64), axis=0)
    np.testing.assert_array_equal(mean_of_sources(sources), np.floor(exact + 0.5))
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_array_equal(mean_of_sources([white] * k), white)


def test_baselines_are_what_their_names_say():
    a, b = image(0), image(1)
    fused = {name: fuse([a, b]) for name, fuse in BASELINES.items()}
    np.testing.assert_array_equal(fused["copy_a"], a)
    np.testing.assert_array_equal(fused["copy_b"], b)
    np.testing.assert_array_equal(fused["max"], np.where(a > b, a, b))
    assert all(image.dtype == np.uint8 and image.shape == a.shape for image in fused.values())


def test_each_method_gets_the_score_of_its_own_image():
    one = example("one")
    assert one.clean is not None
    results = score_methods([one], NAMES)
    outputs = dict(one.outputs) | {name: f(one.sources) for name, f in BASELINES.items()}
    assert results.methods == ["fused", "mean", "max", "copy_a", "copy_b"]
    for method, output in outputs.items():
        alone = score(output, one.sources, one.clean, NAMES)
        for metric, value in alone.items():
            assert results.images["one"][metric][method] == pytest.approx(value, rel=1e-6)


def test_the_summary_is_the_mean_over_the_images():
    results = score_methods((example(f"{i}", seed=10 * i) for i in range(3)), NAMES)
    summary = results.summary()
    assert results.count == 3 and set(summary) == set(NAMES)
    for metric, values in summary.items():
        for method, value in values.items():
            of_images = [scores[metric][method] for scores in results.images.values()]
            assert value == pytest.approx(np.mean(of_images))


def test_images_without_a_clean_one_are_left_out_of_its_mean_only():
    pair, photo = example("pair", clean=False), example("photo", seed=5)
    results = (
        score_methods([pair], ["EN"]).images | score_methods([photo], ["PSNR_clean", "EN"]).images
    )
    summary = Results(results).summary()
    assert summary["PSNR_clean"]["fused"] == results["photo"]["PSNR_clean"]["fused"]
    assert summary["EN"]["fused"] == pytest.approx(
        (results["pair"]["EN"]["fused"] + results["photo"]["EN"]["fused"]) / 2
    )


def test_undefined_values_do_not_spoil_the_mean_but_infinite_ones_show():
    rows = [
        {"PSNR_clean": {"fused": math.nan, "mean": math.inf}},
        {"PSNR_clean": {"fused": 20.0, "mean": 1.0}},
    ]
    summary = Results({str(i): row for i, row in enumerate(rows)}).summary()
    assert summary["PSNR_clean"] == {"fused": 20.0, "mean": math.inf}


def test_the_best_method_follows_the_metrics_direction_and_ties_share_it():
    assert best_methods("PSNR_clean", {"a": 1.0, "b": 3.0, "c": math.nan}) == {"b"}
    assert best_methods("MSE", {"a": 1.0, "b": 3.0, "c": 1.0}) == {"a", "c"}
    assert best_methods("PSNR_clean", {"a": math.nan}) == set()
    assert best_methods("PSNR_clean", {"a": math.inf, "b": 9.0}) == {"a"}


def test_values_of_a_row_share_their_decimals():
    assert format_row([31.256, 8.1, math.inf, math.nan]) == ["31.26", "8.10", "∞", "–"]
    assert format_row([0.51234, 0.9]) == ["0.5123", "0.9000"]
    assert format_row([1234.56]) == ["1234.6"]


def test_the_table_has_a_line_per_metric_in_aligned_columns_with_the_best_marked():
    results = score_methods([example("one"), example("two", seed=20)], NAMES)
    header, *lines = text_table(results).splitlines()
    assert header.startswith("mean of 2 images") and len(lines) == len(NAMES)
    for line, name in zip(lines, sorted(NAMES, key=list(METRICS).index), strict=True):
        assert line.startswith(METRICS[name].title)
        assert line.count("*") == len(best_methods(name, results.summary()[name]))
    column = header.index("fused") + len("fused")
    assert all(line[column - 1].isdigit() and line[column : column + 1] in "* " for line in lines)


@pytest.mark.parametrize(
    "examples, message",
    [
        ([], "holds no images"),
        ([example("x"), example("x")], "^x: two examples have this name"),
        ([Example("y", [image(0)], {"fused": image(1)})], "^y: fusion needs at least two source"),
        (
            [Example("z", [image(0), image(1, (9, 13, 3))], {"fused": image(2)})],
            "^z: source 1 is 14x9 but source 2 is 13x9",
        ),
        ([example("w", clean=False)], "^w: metric 'PSNR_clean' compares with a clean image"),
    ],
)
def test_errors_name_the_example(examples, message):
    with pytest.raises(UserError, match=message):
        score_methods(examples, NAMES)
