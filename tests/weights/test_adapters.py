"""Adapters merged into weights in storage."""

from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.weights import Checkpoint, open_checkpoint
from ditfuse_jax.weights.adapters import InMemory, merge_adapters
from ditfuse_jax.weights.peft import Adapter


@pytest.fixture
def weights() -> Checkpoint:
    reader = InMemory({"a": {"kernel": np.ones((3, 2), np.float32)}}, Path("weights"))
    return Checkpoint("weights", "bundle", Path("weights"), open_checkpoint("small").model, reader)


def adapter(layer: str, rows: int = 3) -> Adapter:
    factors = {
        "lora_a": np.ones((rows, 1), np.float32),
        "lora_b": np.full((1, 2), 4.0, np.float32),
    }
    return Adapter(LoRAConfig(1, 1.0, (layer,)), {layer: factors})


def test_the_factors_are_added_to_their_kernel(weights):
    merged = merge_adapters(weights, [(adapter("a"), 0.5)])
    np.testing.assert_allclose(merged.reader.read_leaf(("a", "kernel")), 3.0)


@pytest.mark.parametrize(
    ("other", "kernel"), [(adapter("b"), "None"), (adapter("a", rows=5), r"\(3, 2\)")]
)
def test_factors_without_a_kernel_that_fits_are_refused_before_anything_is_read(
    weights, other, kernel
):
    with pytest.raises(UserError, match=f"kernel is {kernel}: the adapter was made for another"):
        merge_adapters(weights, [(adapter("a"), 1.0), (other, 1.0)])
