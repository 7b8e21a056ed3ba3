"""Which samples become black and white."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image
from ditfuse_jax.images.ranges import (
    ValueRange,
    apply_range,
    choose_range,
    describe_range,
    measure_samples,
    parse_range,
)


def scene(height=64, width=96):
    """A scene in [0, 1): a ramp with rectangles and noise."""
    rng = np.random.default_rng(0)
    x = np.linspace(0.1, 0.6, width)[None] + rng.normal(0, 0.01, (height, width))
    x[10:30, 20:40] += 0.3
    x[40:55, 60:85] -= 0.08
    return np.clip(x, 0, 0.999)


def counts(low, span):
    return (low + span * scene()).astype(np.uint16)


def chosen(samples, choice="auto"):
    return choose_range([measure_samples(samples)], choice, "x")


def looks_like_the_scene(grey, where=np.s_[:]):
    return np.corrcoef(grey[where].ravel(), scene()[where].ravel())[0, 1] > 0.98 and (
        len(np.unique(grey)) >= 60
    )


SOURCES = {
    "14-bit counts": (7300, 450),
    "centikelvin": (28800, 1150),
    "counts above 2^14": (17000, 500),
    "12-bit counts": (300, 3500),
}


@pytest.mark.parametrize("low, span", SOURCES.values(), ids=SOURCES)
class TestThermalSources:
    def test_counts_in_a_small_part_of_the_range_fill_the_greys(self, low, span):
        samples = counts(low, span)
        assert looks_like_the_scene(apply_range(samples, chosen(samples)))

    @pytest.mark.parametrize("value", [0, 65535])
    def test_dead_pixels_change_nothing(self, low, span, value):
        samples = counts(low, span)
        damaged = samples.copy()
        damaged[[3, 20, 50], [4, 70, 33]] = value
        damaged[:, 48] = value  # a dead column
        a, b = chosen(samples), chosen(damaged)
        assert abs(a.low - b.low) < 0.03 * span and abs(a.high - b.high) < 0.03 * span

    @pytest.mark.parametrize("fill", [0, 65535])
    def test_the_border_of_a_warped_image_changes_nothing(self, low, span, fill):
        samples = counts(low, span)
        turn = cv2.getRotationMatrix2D((48, 32), 4, 0.9)
        warped = cv2.warpAffine(samples, turn, (96, 64), borderValue=fill)
        a, b = chosen(samples), chosen(warped)
        assert (warped == fill).mean() > 0.1
        assert abs(a.low - b.low) < 0.06 * span and abs(a.high - b.high) < 0.06 * span

    def test_a_line_says_what_became_black_and_white(self, low, span):
        statistics = measure_samples(counts(low, span))
        line = describe_range([statistics], chosen(counts(low, span)), "ir.png")
        assert line and "\n" not in line and "ir.png" in line and "--range" in line
        assert line.startswith("warning:") == (span * 0.8 < 0.05 * 65535)


def test_a_photograph_keeps_its_range():
    samples = (scene() * 60000).astype(np.uint16)
    assert chosen(samples) == ValueRange(0, 65535)
    assert describe_range([measure_samples(samples)], chosen(samples), "x") is None


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_white_of_colour_is_the_camera_s_depth_whatever_a_dead_pixel_holds(bits):
    colour = (np.stack([scene()] * 3, -1) * 2**bits).astype(np.uint16)
    colour[5, 5] = 65535
    assert chosen(colour) == ValueRange(0, 2**bits - 1)


def test_dark_exposures_stay_darker_than_bright_ones():
    bright = (np.stack([scene()] * 3, -1) * 4095).astype(np.uint16)
    dark = bright // 16
    together = choose_range([measure_samples(dark), measure_samples(bright)], "auto", "x")
    means = [apply_range(image, together).mean() for image in (dark, bright)]
    assert means[0] < means[1] / 10


def test_a_common_range_keeps_equal_counts_equal_when_a_hot_object_enters():
    cold = counts(7300, 450)
    hot = cold.copy()
    hot[:12, :14] = 12000
    common = choose_range([measure_samples(cold), measure_samples(hot)], "auto", "x")
    a, b = (apply_range(frame, common) for frame in (cold, hot))
    np.testing.assert_array_equal(a[20:, 20:], b[20:, 20:])


def test_floats_are_read_as_temperatures_or_as_shares_of_white():
    kelvin = (290 + 12 * scene()).astype(np.float32)
    assert looks_like_the_scene(apply_range(kelvin, chosen(kelvin)))
    assert chosen(scene().astype(np.float32)) == ValueRange(0, 1)


def test_missing_floats_are_black_and_do_not_count():
    kelvin = (290 + 12 * scene()).astype(np.float32)
    damaged = kelvin.copy()
    damaged[:8] = np.nan
    a, b = chosen(kelvin), chosen(damaged)
    assert abs(a.low - b.low) < 0.5 and abs(a.high - b.high) < 0.5
    assert (apply_range(damaged, b)[:8] == 0).all()


def test_the_depth_of_the_result_does_not_change_the_picture():
    samples = counts(28800, 1150)
    shallow, deep = (apply_range(samples, chosen(samples), depth=depth) for depth in (8, 16))
    assert (shallow.dtype, deep.dtype) == (np.uint8, np.uint16)
    assert np.abs(deep / 257 - shallow).max() <= 0.51
    assert len(np.unique(deep)) > 300  # every count its own value


def test_the_full_range_is_copied_bit_by_bit():
    samples = np.random.default_rng(0).integers(0, 65536, (9, 9)).astype(np.uint16)
    np.testing.assert_array_equal(apply_range(samples, ValueRange(0, 65535), depth=16), samples)


@pytest.mark.parametrize("choice", ["", "thermal", "1", "1,2,3", "5,4", "1,1", "nan,4", (3, 2)])
def test_a_bad_range_is_one_line(choice):
    with pytest.raises(UserError, match="range"):
        parse_range(choice)


def test_named_values_are_used(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.array([[1000, 1500, 2000, 2500]], np.uint16))
    image = read_image(tmp_path / "x.png", value_range=(1000, 2000))
    np.testing.assert_array_equal(image[0, :, 0], [0, 128, 255, 255])
