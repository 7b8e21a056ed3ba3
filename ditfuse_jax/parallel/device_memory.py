"""How much memory programs may use on a device."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ditfuse_jax.parallel.accelerators import TPUS, chip_of


def memory_limit(devices: Iterable[Any]) -> int | None:
    """Returns the bytes that a program may use on each of the devices.

    Devices of this process report them (on GPUs the share that JAX reserves); with several
    processes, the smallest report counts.  For TPUs that are absent, it is the chip's memory.

    Args:
      devices: of a mesh; the same in all processes.

    Returns:
      None on CPUs, whose programs may use as much memory as the host has.
    """
    devices = list(devices)
    if devices[0].platform == "cpu":
        return None
    if devices[0] not in jax.devices():  # programs are only compiled for them
        chip = chip_of(devices[0].device_kind) or ""
        return int(TPUS[chip].hbm_bytes) if chip in TPUS else None
    process = jax.process_index()
    reports = [_limit(device) for device in devices if device.process_index == process]
    limits = np.asarray([min(reports, default=0)], np.int64)
    if jax.process_count() > 1:
        limits = np.asarray(multihost_utils.process_allgather(limits)).ravel()
    known = [int(limit) for limit in limits if limit > 0]
    return min(known, default=None)


def _limit(device: Any) -> int:
    """Returns the bytes that a device of this process reports; 0 if it reports none."""
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit", 0))
