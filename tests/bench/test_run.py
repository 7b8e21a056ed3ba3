"""Rates from repetitions; `cli/test_evaluate.py` runs every benchmark."""

import subprocess
import sys

import jax
import pytest

from ditfuse_jax.bench import BENCHMARKS, bench
from ditfuse_jax.bench.measurement import Measurement
from ditfuse_jax.bench.run import summarize
from ditfuse_jax.errors import UserError


def test_rates_are_of_the_median_repetition():
    result = summarize("train", Measurement([2.0, 30.0, 1.0], 8, 4e12, {"crop": (32, 32)}))
    assert result["median_seconds"] == 2.0
    assert result["slowest_seconds"] == 30.0
    assert result["images_per_second"] == 4.0
    assert result["model_gflop_per_image"] == pytest.approx(500.0)
    assert result["tflops_per_device"] == pytest.approx(2.0 / jax.device_count())
    assert result["crop"] == (32, 32)


def test_a_benchmark_without_a_model_reports_no_flops():
    result = summarize("data", Measurement([1.0], 8, 0.0, {}))
    assert not {"tflops_per_device", "mfu", "model_gflop_per_image"} & set(result)


def test_without_json_each_value_is_printed_on_a_line(capsys):
    words = ["--config.data.crop=(32, 32)", "--config.data.batch_size=1"]
    result = bench("data", "nano_m3", words, repeats=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(result)


def test_less_than_one_repetition_is_refused():
    with pytest.raises(UserError, match="repeats must be at least 1, not 0"):
        bench("data", "nano_m3", repeats=0)


def test_an_unknown_benchmark_is_reported_with_the_known_ones():
    with pytest.raises(UserError, match="'walk' is unknown; choose from train, sample, data"):
        bench("walk", "nano_m3")


def test_a_registered_benchmark_runs_like_the_packages_own(monkeypatch, capsys):
    monkeypatch.setitem(
        BENCHMARKS._entries,
        "mine",
        lambda recipe, repeats: Measurement([2.0] * repeats, 4, 0.0, {}),
    )
    result = bench("mine", "nano_m3", repeats=3)
    assert (result["repeats"], result["images_per_second"]) == (3, 2.0)


@pytest.mark.processes
def test_importing_benchmarks_imports_neither_scipy_nor_the_pipeline():
    code = (
        "import sys, ditfuse_jax.bench\n"
        "assert not {'scipy', 'tensorboardX', 'grain', 'cv2', 'flax'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
