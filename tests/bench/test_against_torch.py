"""The comparison with PyTorch compares two sides that compute the same."""

import dataclasses
import sys

import pytest

from ditfuse_jax.bench import against_torch
from ditfuse_jax.bench.against_torch import Turns, compare
from ditfuse_jax.errors import UserError


@pytest.mark.parity
def test_both_sides_sample_the_same_image_and_have_the_same_loss(monkeypatch):
    for name in ("torch", "diffusers"):
        pytest.importorskip(name, reason=f"the comparison needs {name}")
    tiny = dataclasses.replace(
        against_torch.CONFIG,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        intermediate_size=48,
        vocab_size=64,
        text_slots=(3, 2, 4),
        pos_embed_max_size=16,
    )
    monkeypatch.setattr(against_torch, "CONFIG", tiny)
    monkeypatch.setattr(against_torch, "SIDE", 8)
    found = compare(steps=2, repeats=1)
    assert found["sample_difference"] < 1e-5
    assert found["loss_difference"] < 1e-5
    assert found["branches"] == 3
    assert found["tokens"] == 9 + 2 * 16 + 17


def test_ratios_above_one_say_that_we_are_faster():
    turns = Turns((None, None), [(1.0, 2.0), (3.0, 4.0), (2.0, 3.0)], [(6.0, 9.0)] * 3)
    found = turns.summary()
    assert found["times_torch_median_seconds"] == 3.0
    assert found["times_torch_fastest_seconds"] == 6.0
    assert found["times_torch_median_cpu_seconds"] == 3.0


def test_without_pytorch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="torch is missing: install the extra `parity`"):
        compare(steps=1, repeats=1)
