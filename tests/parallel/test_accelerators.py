"""Peak rates of accelerators by JAX's device kinds."""

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
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
    ],
)
def test_known_device_kinds_have_the_peak_of_their_data_sheet(kind, tflops):
    assert peak_flops(kind) == tflops * 1e12


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA GeForce RTX 4090", "TPU v99"])
def test_an_unknown_device_kind_has_no_peak(kind):
    assert peak_flops(kind) is None
