"""What the accelerators can do at best, for utilisation numbers.

Dense bfloat16 peaks in TFLOP/s per device as JAX counts devices, from the vendors' data sheets:
cloud.google.com/tpu/docs (v4 275, v5e 197, v5p 459, v6e 918), nvidia.com (A100 312, H100 SXM and
H200 989, PCIe 756, NVL 835; B200 2250).  A CPU has no entry: its utilisation is not printed.
"""

_PEAK_TFLOPS = {
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5e": 197.0,
    "TPU v5p": 459.0,
    "TPU v5": 459.0,
    "TPU v6 lite": 918.0,
    "TPU v6e": 918.0,
    "NVIDIA A100": 312.0,
    "NVIDIA H100": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.0,
    "NVIDIA H200": 989.0,
    "NVIDIA B200": 2250.0,
}


def peak_flops(device_kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a kind of device (JAX's `device_kind`), or None where unknown."""
    names = sorted(_PEAK_TFLOPS, key=len, reverse=True)  # the longest match is the right one
    for name in names:
        if device_kind.startswith(name):
            return _PEAK_TFLOPS[name] * 1e12
    return None
