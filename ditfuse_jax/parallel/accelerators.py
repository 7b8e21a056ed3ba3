"""Peak rates of accelerators, for utilisation and bounds.

The numbers are the vendors': docs.cloud.google.com/tpu/docs/ (pages v4, v5e, v6e, and tpu7x, whose
table also has v5p and v6e) and the data sheets on nvidia.com.  CPUs have no entry, so that no
utilisation is printed for them.  Other modules add entries to `TPUS` and `PEAK_FLOPS` with
`register`.
"""

import dataclasses
import math

from ditfuse_jax.registry import Registry


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Peak rates of one device as JAX counts devices.

    Attributes:
      flops: dense bfloat16 FLOP/s of the matrix units.
      hbm_bytes: bytes of memory.
      hbm_bandwidth: bytes/s.
      ici_bandwidth: bytes/s that all links to neighbours send together; half of the bidirectional
        rate in the documentation.
      dcn_bandwidth: bytes/s of the device's share of the host's network, which connects slices.
    """

    flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_bandwidth: float
    dcn_bandwidth: float


_GIB = float(2**30)

# HBM GiB and GB/s, bidirectional ICI GB/s, DCN Gbit/s.  The network of v5e and v6e is documented
# per pod of 256 chips; for v6e the page tpu7x gives the same number per chip.
_TPUS = {
    "v5e": Accelerator(197e12, 16 * _GIB, 819e9, 400e9 / 2, 6.4e12 / 256 / 8),
    "v5p": Accelerator(459e12, 95 * _GIB, 2765e9, 1200e9 / 2, 50e9 / 8),
    "v6e": Accelerator(918e12, 32 * _GIB, 1638e9, 800e9 / 2, 100e9 / 8),
    # A device is one of the chip's two cores, which share all resources.
    "v7x": Accelerator(2307e12 / 2, 192 * _GIB / 2, 7380e9 / 2, 1200e9 / 4, 100e9 / 8 / 2),
}

TPUS: Registry[Accelerator] = Registry("TPU", _TPUS)


def _gpu(flops: float, memory: float, bandwidth: float) -> Accelerator:
    """Returns a GPU that works alone, so that nothing is sent.

    The memory is the data sheet's in GB of 10^9 bytes.  Devices report a little more, of which
    driver and libraries need about as much.
    """
    return Accelerator(flops, memory * 1e9, bandwidth, math.inf, math.inf)


# Dense bfloat16 FLOP/s with float32 sums, GB, bytes/s.
_GPUS = {
    "l4": _gpu(121e12, 24, 300e9),
    "l40s": _gpu(362e12, 48, 864e9),
    "rtx4090": _gpu(165e12, 24, 1008e9),
    "a100": _gpu(312e12, 80, 2039e9),
    "h100": _gpu(989e12, 80, 3350e9),
    "h200": _gpu(989e12, 141, 4800e9),
}
GPUS: Registry[Accelerator] = Registry("device", _GPUS)

# Prefix of JAX's `device_kind` -> dense bfloat16 FLOP/s.
_PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": TPUS["v5e"].flops,
    "TPU v5e": TPUS["v5e"].flops,
    "TPU v5p": TPUS["v5p"].flops,
    "TPU v5": TPUS["v5p"].flops,
    "TPU v6 lite": TPUS["v6e"].flops,
    "TPU v6e": TPUS["v6e"].flops,
    "TPU7x": TPUS["v7x"].flops,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}
PEAK_FLOPS: Registry[float] = Registry("device kind", _PEAK_FLOPS)


def peak_flops(device_kind: str) -> float | None:
    """Returns the peak dense bfloat16 FLOP/s of a JAX `device_kind`, or None if it is unknown."""
    matches = [name for name in PEAK_FLOPS if device_kind.startswith(name)]
    return PEAK_FLOPS[max(matches, key=len)] if matches else None


# Prefix of JAX's `device_kind` -> name of the chip: a key of `TPUS`, or a GPU.
_CHIPS = {
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5p": "v5p",
    "TPU v5": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "v7x",
    "NVIDIA H100": "h100",
    "NVIDIA H200": "h200",
}


def chip_of(device_kind: str) -> str | None:
    """Returns the name of the chip with a JAX `device_kind`, or None if it is unknown."""
    matches = [name for name in _CHIPS if device_kind.startswith(name)]
    return _CHIPS[max(matches, key=len)] if matches else None
