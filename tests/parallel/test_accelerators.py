"""Peaks of accelerators by the names JAX gives them."""

import pytest

from ditfuse_jax.parallel.accelerators import peak_flops


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("TPU7x", 2307 / 2),  # a device is half a chip
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
    ],
)
def test_known_chips_have_their_data_sheet_s_peak(kind, tflops):
    assert peak_flops(kind) == tflops * 1e12


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA GeForce RTX 4090", "TPU v99"])
def test_an_unknown_chip_has_no_peak(kind):
    assert peak_flops(kind) is None


@pytest.mark.parametrize("kind", ["NVIDIA H100 PCIe", "NVIDIA H100 NVL"])
def test_a_slower_variant_is_not_taken_for_its_faster_sister(kind):
    assert peak_flops(kind) != peak_flops("NVIDIA H100 80GB HBM3")
