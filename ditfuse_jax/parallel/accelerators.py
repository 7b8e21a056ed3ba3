"""What the accelerators can do at best, for utilisation numbers and bounds.

Numbers are the vendors': docs.cloud.google.com/tpu/docs/ (pages v4, v5e, v6e, and tpu7x, whose
table also has v5p and v6e) and the data sheets on nvidia.com.  A CPU has no entry: its utilisation
is not printed.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Peaks of one device as JAX counts devices.

    Attributes:
      flops: dense bfloat16 FLOP/s of the matrix units.
      hbm_bytes: memory.
      hbm_bandwidth: bytes/s.
      ici_bandwidth: bytes/s that all links to neighbours send together; half of what the
        documentation calls bidirectional.
      dcn_bandwidth: bytes/s of its share of the host's network, which joins slices.
    """

    flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_bandwidth: float
    dcn_bandwidth: float


_GIB = float(2**30)

# HBM GiB and GB/s, bidirectional ICI GB/s, DCN Gbit/s; v5e's network is told per pod of 256 chips.
# v6e's is too, 25.6 Tbit/s, and by the page tpu7x per chip: both are the same.
TPUS: dict[str, Accelerator] = {
    "v5e": Accelerator(197e12, 16 * _GIB, 819e9, 400e9 / 2, 6.4e12 / 256 / 8),
    "v5p": Accelerator(459e12, 95 * _GIB, 2765e9, 1200e9 / 2, 50e9 / 8),
    "v6e": Accelerator(918e12, 32 * _GIB, 1638e9, 800e9 / 2, 100e9 / 8),
    # A device is one of the chip's two cores; they share everything.
    "v7x": Accelerator(2307e12 / 2, 192 * _GIB / 2, 7380e9 / 2, 1200e9 / 4, 100e9 / 8 / 2),
}

# How JAX's `device_kind` begins -> dense bfloat16 FLOP/s.
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


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s of a device (JAX's `device_kind`), or None where unknown."""
    names = sorted(_PEAK_FLOPS, key=len, reverse=True)  # the longest match is the right one
    for name in names:
        if device_kind.startswith(name):
            return _PEAK_FLOPS[name]
    return None
