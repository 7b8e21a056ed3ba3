"""The speed comparison with PyTorch compares two implementations that compute the same."""

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ditfuse_jax.errors import UserError


@pytest.fixture
def benchmark(monkeypatch) -> ModuleType:
    """The script `torch_benchmark.py`, which imports `torch_model.py` beside it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("torch_benchmark")


@pytest.mark.parity
def test_both_implementations_sample_the_same_image_and_have_the_same_loss(benchmark, monkeypatch):
    for name in ("torch", "diffusers"):
        pytest.importorskip(name, reason=f"the comparison needs {name}")
    tiny = dataclasses.replace(
        benchmark.CONFIG,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        intermediate_size=48,
        vocab_size=64,
        text_slots=(3, 2, 4),
        pos_embed_max_size=16,
    )
    monkeypatch.setattr(benchmark, "CONFIG", tiny)
    monkeypatch.setattr(benchmark, "SIDE", 8)
    found = benchmark.compare(steps=2, repeats=1)
    assert found["sample_difference"] < 1e-5
    assert found["loss_difference"] < 1e-5
    assert found["branches"] == 3
    assert found["tokens"] == 9 + 2 * 16 + 17


def test_ratios_above_one_mean_that_this_package_is_faster(benchmark):
    turns = benchmark.Turns((None, None), [(1.0, 2.0), (3.0, 4.0), (2.0, 3.0)], [(6.0, 9.0)] * 3)
    found = turns.summary()
    assert found["times_torch_median_seconds"] == 3.0
    assert found["times_torch_fastest_seconds"] == 6.0
    assert found["times_torch_median_cpu_seconds"] == 3.0


def test_without_pytorch_the_extra_is_named(benchmark, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="torch is missing: install the extra `parity`"):
        benchmark.compare(steps=1, repeats=1)
