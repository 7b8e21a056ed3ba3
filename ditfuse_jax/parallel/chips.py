"""What the accelerators can do at best, for utilisation numbers and bounds.

Numbers are the vendors', per chip: cloud.google.com/tpu/docs (pages v4, v5e, v5p, v6e, tpu7x) and
the data sheets on nvidia.com.  A CPU has no entry: its utilisation is not printed.
"""

import dataclasses

_PEAK_TFLOPS = {
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5e": 197.0,
    "TPU v5p": 459.0,
    "TPU v5": 459.0,
    "TPU v6 lite": 918.0,
    "TPU v6e": 918.0,
    "TPU7x": 1153.5,  # a device is one of the chip's two cores
    "NVIDIA A100": 312.0,
    "NVIDIA H100": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.0,
    "NVIDIA H200": 989.0,
    "NVIDIA B200": 2250.0,
}


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s of a device (JAX's `device_kind`), or None where unknown."""
    names = sorted(_PEAK_TFLOPS, key=len, reverse=True)  # the longest match is the right one
    for name in names:
        if device_kind.startswith(name):
            return _PEAK_TFLOPS[name] * 1e12
    return None


@dataclasses.dataclass(frozen=True)
class Chip:
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
TPUS: dict[str, Chip] = {
    "v5e": Chip(197e12, 16 * _GIB, 819e9, 400e9 / 2, 6.4e12 / 256 / 8),
    "v5p": Chip(459e12, 95 * _GIB, 2765e9, 1200e9 / 2, 50e9 / 8),
    "v6e": Chip(918e12, 32 * _GIB, 1638e9, 800e9 / 2, 100e9 / 8),
    # Two devices per chip share everything.
    "v7x": Chip(2307e12 / 2, 192 * _GIB / 2, 7380e9 / 2, 1200e9 / 4, 100e9 / 8 / 2),
}
