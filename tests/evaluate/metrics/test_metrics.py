"""`compute_metrics`: results and refused input; the table of metrics; grey; local windows."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import (
    CLEAN_METRICS,
    METRIC_PRESETS,
    METRICS,
    TASK_METRICS,
    compute,
    compute_metrics,
    compute_metrics_of_candidates,
    register_metric,
)
from ditfuse_jax.evaluate.metrics.grey import luminance, stretched
from ditfuse_jax.evaluate.metrics.sums import integer_mean
from ditfuse_jax.evaluate.metrics.windows import Windows, box_window, filtered, gaussian_window

pytestmark = pytest.mark.medium

QUICK = ["EN", "SD", "CC", "MSE", "PSNR", "PSNR_clean"]  # no windows: quick to compile


@pytest.fixture
def photos(scene):
    return scene("photo"), [scene("other"), scene("noise")]


class TestScore:
    """`compute_metrics` and `compute_metrics_of_candidates`."""

    def test_psnr_and_ssim_to_clean_agree_with_scikit_image(self, scene, oracle):
        fused, clean = scene("photo"), scene("other")
        ours = compute_metrics(fused, [clean, clean], clean, CLEAN_METRICS)
        psnr = peak_signal_noise_ratio(clean, fused)
        assert ours["PSNR_clean"] == pytest.approx(psnr, rel=1e-6)
        options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255}
        grey = oracle.grey(fused), oracle.grey(clean)
        local = np.asarray(structural_similarity(*grey, full=True, **options)[1])
        whole_windows = local[5:-5, 5:-5]
        assert ours["SSIM_clean"] == pytest.approx(whole_windows.mean(), abs=2e-6)

    def test_psnr_notices_one_level_in_one_channel(self, scene):
        clean = scene("photo")
        fused = clean.copy()
        fused[3, 4, 1] ^= 1
        expected = 10 * math.log10(255**2 * clean.size)
        found = compute_metrics(fused, [clean, clean], clean, ["PSNR_clean"])["PSNR_clean"]
        assert found == pytest.approx(expected, rel=1e-6)

    def test_candidates_scored_together_have_the_values_of_each_alone(self, scene):
        candidates = [scene("photo"), scene("noise"), scene("flat9")]
        sources, clean = [scene("other"), scene("night")], scene("other")
        together = compute_metrics_of_candidates(candidates, sources, clean)
        assert set(together) == set(TASK_METRICS["fuse"])
        for i, candidate in enumerate(candidates):
            for name, value in compute_metrics(candidate, sources, clean).items():
                expected = pytest.approx(value, rel=1e-6, abs=1e-7, nan_ok=True)
                assert together[name][i] == expected, name

    def test_many_candidates_of_large_images_are_scored_in_parts(self, scene, monkeypatch):
        candidates = [scene("photo", 20, 24) + np.uint8(i) for i in range(5)]
        sources = [scene("other", 20, 24), scene("noise", 20, 24)]
        whole = compute_metrics_of_candidates(candidates, sources, sources[0], QUICK)
        monkeypatch.setattr(compute, "_PIXELS_AT_ONCE", 2 * 128 * 128)  # of the padded images
        parts = compute_metrics_of_candidates(candidates, sources, sources[0], QUICK)
        for name in QUICK:
            np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6)

    def test_impossible_metrics_are_left_out_by_default(self, scene):
        fused, sources = scene("photo", 20, 24), [scene("other", 20, 24), scene("noise", 20, 24)]
        left_out = {"PSNR_clean", "SSIM_clean", "VIF"}  # no clean image, no room for VIF
        assert set(compute_metrics(fused, sources)) == set(TASK_METRICS["fuse"]) - left_out
        three = compute_metrics(fused, [*sources, fused])
        assert set(three) == set(TASK_METRICS["fuse"]) - left_out - {"SCD"}

    def test_named_metrics_keep_their_order_without_duplicates(self, photos):
        assert list(compute_metrics(*photos, names=["SD", "EN", "SD"])) == ["SD", "EN"]

    def test_no_names_give_no_scores(self, photos):
        assert compute_metrics(*photos, names=[]) == {}

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda a: compute_metrics(a, [a[:-1]]), "50x43 but source 1 is 50x42"),
            (lambda a: compute_metrics(a, [a], a[:, :-2]), "the clean image is 48x43"),
            (
                lambda a: compute_metrics(a[:8, :8], [a[:8, :8]], names=["SSIM"]),
                "'SSIM' needs sides of at le",
            ),
            (
                lambda a: compute_metrics(a[:8], [a[:8]], names=["VIF"]),
                "at least 41 pixels, got 50x8",
            ),
            (
                lambda a: compute_metrics(a, [a], names=["PSNR_clean"]),
                "'PSNR_clean' compares with a clean",
            ),
            (
                lambda a: compute_metrics(a, [a] * 3, names=["SCD"]),
                "'SCD' is defined for two sources, not 3",
            ),
            (
                lambda a: compute_metrics(a, [a], names=["ssmi"]),
                "metric 'ssmi' is unknown; choose from PSNR_cl",
            ),
            (
                lambda a: compute_metrics(a, [a], preset="me"),
                "metric preset 'me' is unknown; choose from canonical",
            ),
            (lambda a: compute_metrics(a / 255.0, [a]), "expected a uint8 or uint16 array"),
            (lambda a: compute_metrics(a, []), "at least one fused image and one source"),
        ],
    )
    def test_bad_input_is_refused_with_the_reason(self, scene, call, message):
        with pytest.raises(UserError, match=message) as caught:
            call(scene("photo"))
        assert "\n" not in str(caught.value)

    def test_sixteen_bits_are_scored_like_their_eight(self, scene):
        fused, source = scene("photo", 20, 24), scene("other", 20, 24)
        deep = np.minimum(fused.astype(np.uint32) * 257 + 100, 65535).astype(np.uint16)
        names = ["EN", "SD", "MI"]
        assert compute_metrics(deep, [source], names=names) == compute_metrics(
            fused, [source], names=names
        )


class TestRegistry:
    """The table of metrics and what a user adds to it."""

    def test_keys_are_the_metrics_names_and_not_those_of_report_json(self):
        assert all(key == metric.name for key, metric in METRICS.items())
        assert not {"images", "count", "run"} & set(METRICS)

    def test_tasks_and_presets_name_existing_metrics(self):
        assert all(set(names) <= set(METRICS) for names in TASK_METRICS.values())
        assert all(set(preset.changed) <= set(METRICS) for preset in METRIC_PRESETS.values())
        for preset in METRIC_PRESETS.values():
            assert all(name == metric.name for name, metric in preset.changed.items())

    def test_titles_of_pooled_metrics_contain_sum_or_mean(self):
        for name in ("MI", "NMI", "SCD", "VIF"):
            assert "sum" in METRICS[name].title
        for name in ("CC", "CE", "MSE", "SSIM", "MSSSIM", "FMI_pixel"):
            assert "mean" in METRICS[name].title

    def test_the_documentation_names_every_metric_task_and_preset(self):
        text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
        for name in METRICS:
            feature = name.removeprefix("FMI")  # in one row
            assert f"`{name}`" in text or f"`{feature}`" in text, name
        for name in (*TASK_METRICS, *METRIC_PRESETS):
            assert name == "canonical" or f"`{name}`" in text, name

    def test_every_docstring_of_a_metric_names_its_direction(self):
        for metric in METRICS.values():
            text = " ".join((metric.function.__doc__ or "").split())
            if "see `pixel_information`" not in text:
                assert {"higher": "igher is", "lower": "ower is", "zero": "0 is best"}[
                    metric.direction
                ] in text, metric.name

    def test_a_metric_without_a_name_is_refused(self):
        with pytest.raises(UserError, match="mean_red: a metric needs a name"):

            @register_metric
            def mean_red(images):
                return jnp.mean(images.fused_rgb[..., 0], axis=(1, 2))

    def test_a_registered_metric_is_computed_with_the_others(self, photos, own_metrics):
        @register_metric("RED", "mean red", needs="fused", direction="lower")
        def mean_red(images):
            return jnp.mean(images.fused_rgb[..., 0], axis=(1, 2))

        fused, sources = photos
        scores = compute_metrics_of_candidates([fused, sources[0]], sources, names=["EN", "RED"])
        expected = [fused[..., 0].mean(), sources[0][..., 0].mean()]
        np.testing.assert_allclose(scores["RED"], expected, rtol=1e-5)
        assert list(scores) == ["EN", "RED"]
        assert "RED" not in compute_metrics(*photos)
        with pytest.raises(UserError, match="metric 'RED' is registered already"):
            register_metric("RED")(lambda images: images.fused)

    def test_a_metric_may_run_on_the_host(self, photos, own_metrics):
        register_metric("GREEN", needs="host")(lambda rgb: rgb[..., 1].mean())
        fused, _ = photos
        scores = compute_metrics(*photos, names=["GREEN", "EN"])
        assert scores["GREEN"] == pytest.approx(fused[..., 1].mean())
        assert METRICS["GREEN"].title == "GREEN"

    @pytest.mark.parametrize(
        ("needs", "function", "message"),
        [
            ("fused", lambda images: jnp.mean(images.fused), r"shape \(2,\), not shape \(\)"),
            ("fused", lambda images: jnp.ones((1,)), r"shape \(2,\), not shape \(1,\)"),
            ("fused", lambda images: jnp.ones((2, 1)), r"shape \(2,\), not shape \(2, 1\)"),
            ("host", lambda rgb: rgb.mean(axis=(0, 1)), r"shape \(\), not shape \(3,\)"),
        ],
    )
    def test_a_metric_that_returns_another_shape_is_refused_by_name(
        self, photos, own_metrics, needs, function, message
    ):
        register_metric("SHAPE", needs=needs)(function)
        fused, sources = photos
        with pytest.raises(UserError, match=rf"^metric 'SHAPE' must return .*{message}"):
            compute_metrics_of_candidates([fused, sources[0]], sources, names=["SHAPE"])

    @pytest.mark.parametrize(
        ("facts", "choices"),
        [
            ({"needs": "fuse"}, "fused, sources, pair, clean, host"),
            ({"direction": "up"}, "higher, lower, zero"),
        ],
    )
    def test_a_metric_with_an_unknown_fact_is_refused_at_registration(
        self, own_metrics, facts, choices
    ):
        ((field, value),) = facts.items()
        message = f"^metric 'TYPO': {field} '{value}' is unknown; choose from {choices}$"
        with pytest.raises(UserError, match=message):
            register_metric("TYPO", **facts)(lambda images: images.fused)

    def test_a_cell_that_registers_a_metric_may_run_again_with_another_formula(
        self, photos, own_metrics
    ):
        fused, sources = photos
        space = {"register_metric": register_metric, "jnp": jnp, "__name__": "notebook"}
        cell = "@register_metric('CELL', needs='fused')\ndef cell(images):\n    return {}"
        found = []
        for factor in (1.0, 2.0):
            exec(cell.format(f"jnp.full(images.fused.shape[:1], {factor})"), space)
            found.append(compute_metrics(fused, sources, names=["CELL"])["CELL"])
        assert found == [1.0, 2.0]
        space["__name__"] = "another"
        with pytest.raises(UserError, match="'CELL' is registered already"):
            exec(cell.format("0"), space)

    def test_merit_follows_the_direction(self):
        assert METRICS["EN"].merit(2) > METRICS["EN"].merit(1)
        assert METRICS["MSE"].merit(1) > METRICS["MSE"].merit(2)
        assert METRICS["Qsf"].merit(-0.1) == METRICS["Qsf"].merit(0.1) > METRICS["Qsf"].merit(0.2)


class TestGrey:
    """`luminance` and `stretched`."""

    def test_luminance_rounds_every_colour_like_exact_arithmetic(self, oracle):
        level = np.arange(256, dtype=np.uint8)
        for red in (0, 1, 77, 128, 254, 255):
            green, blue = np.meshgrid(level, level, indexing="ij")
            rgb = np.stack([np.full_like(green, red), green, blue], axis=-1)
            found = np.asarray(luminance(jnp.asarray(rgb)))
            np.testing.assert_array_equal(found, oracle.grey(rgb))

    def test_luminance_leaves_grey_images_unchanged(self):
        level = np.arange(256, dtype=np.uint8)
        rgb = np.stack([level] * 3, axis=-1)
        np.testing.assert_array_equal(np.asarray(luminance(jnp.asarray(rgb))), level)

    def test_stretching_rounds_every_range_like_float64(self, oracle):
        for low, high in [(0, 255), (3, 250), (100, 101), (0, 170), (17, 219), (40, 40)]:
            image = np.arange(low, high + 1, dtype=np.float32)[None, None]
            found = np.asarray(stretched(jnp.asarray(image)))[0]
            np.testing.assert_array_equal(found, oracle.stretched(image[0].astype(np.float64)))


class TestWindows:
    """Local moments and exact sums."""

    def test_a_small_variance_survives_on_a_bright_background(self):
        image = np.full((30, 30), 250.0, np.float32)
        image[::2] += 1
        weights = gaussian_window(11, 1.5)
        variance = jax.jit(lambda x: Windows(x, weights).variance)(image)
        p = weights[::2].sum()
        np.testing.assert_allclose(variance[0], p * (1 - p), rtol=1e-5)

    @pytest.mark.parametrize("weights", [gaussian_window(17, 3.4), box_window(11)])
    def test_a_flat_window_has_its_value_exactly_and_no_variance(self, weights):
        image = np.full((2, 31, 32), 0.1, np.float32)
        image[1] = 253
        windows = Windows(image, weights)
        np.testing.assert_array_equal(windows.mean[0], np.float32(0.1))
        np.testing.assert_array_equal(filtered(image, weights)[1], 253)
        assert not np.any(windows.variance)

    def test_selected_images_of_a_stack_have_the_values_of_each_alone(self):
        images = np.random.default_rng(0).normal(size=(3, 20, 22)).astype(np.float32)
        weights = gaussian_window(7, 1.5)
        stack, a, c = Windows(images, weights), *(Windows(images[i], weights) for i in (0, 2))
        pairs = stack[:2, None].covariance(stack[None, 2:])
        np.testing.assert_allclose(pairs[0, 0], a.covariance(c), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(stack[0].variance, a.variance, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("shape", [(3, 5), (70, 9000), (2000, 600)])
    def test_means_of_integers_are_exact_to_float32(self, shape):
        values = np.random.default_rng(1).integers(0, 260_101, shape).astype(np.int32)
        found = float(jax.jit(integer_mean)(values))
        assert found == pytest.approx(values.mean(dtype=np.float64), rel=1.5e-7)
