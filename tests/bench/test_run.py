"""How repetitions become rates; that every benchmark runs is shown in `cli/test_evaluate.py`."""

import jax
import pytest

from ditfuse_jax.bench import bench
from ditfuse_jax.bench.measurement import Measurement
from ditfuse_jax.bench.run import summarise
from ditfuse_jax.errors import UserError


def test_the_median_decides_so_that_one_slow_repetition_does_not():
    result = summarise("train", Measurement([2.0, 30.0, 1.0], 8, 4e12, {"crop": (32, 32)}))
    assert result["median_seconds"] == 2.0
    assert result["slowest_seconds"] == 30.0
    assert result["images_per_second"] == 4.0
    assert result["model_gflop_per_image"] == pytest.approx(500.0)
    assert result["tflops_per_device"] == pytest.approx(2.0 / jax.device_count())
    assert result["crop"] == (32, 32)


def test_what_does_no_model_work_claims_none():
    result = summarise("data", Measurement([1.0], 8, 0.0, {}))
    assert not {"tflops_per_device", "mfu", "model_gflop_per_image"} & set(result)


def test_without_json_each_value_has_its_line(capsys):
    words = ["--config.data.crop=(32, 32)", "--config.data.batch_size=1"]
    result = bench("data", "nano_m3", words, repeats=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(result)


def test_less_than_one_repetition_is_refused():
    with pytest.raises(UserError, match="repeats must be at least 1, not 0"):
        bench("data", "nano_m3", repeats=0)
