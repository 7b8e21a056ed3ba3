"""The roofline model: a lower bound of a program's time (Williams et al. 2009).

The bound is the time of the slowest resource, assuming perfect overlap, peak rates and equal load
on all links.  It is not a measurement.
"""

import dataclasses

from ditfuse_jax.parallel.accelerators import Accelerator


@dataclasses.dataclass(frozen=True)
class Work:
    """Work of one device in one run of a program.

    Attributes:
      flops: FLOPs of matrix products.
      hbm: bytes read from and written to memory.
      ici: bytes sent within a slice.
      dcn: bytes sent to other slices.
    """

    flops: float
    hbm: float
    ici: float
    dcn: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Lower bound of the time of a program.

    Attributes:
      seconds: time of each resource: `matrix`, `hbm`, `ici`, `dcn`.
      mfu: upper bound of the model FLOPs utilisation.
    """

    seconds: dict[str, float]
    mfu: float

    @property
    def bottleneck(self) -> str:
        """The resource that takes longest."""
        return max(self.seconds, key=lambda resource: self.seconds[resource])

    @property
    def min_seconds(self) -> float:
        return self.seconds[self.bottleneck]


def roofline(work: Work, model_flops: float, accelerator: Accelerator) -> Roofline:
    """Computes the bound for one device.

    Args:
      work: work of the device.
      model_flops: the device's share of the model FLOPs.
      accelerator: peak rates.
    """
    seconds = {
        "matrix": work.flops / accelerator.flops,
        "hbm": work.hbm / accelerator.hbm_bandwidth,
        "ici": work.ici / accelerator.ici_bandwidth,
        "dcn": work.dcn / accelerator.dcn_bandwidth,
    }
    longest = max(seconds.values())
    mfu = model_flops / (longest * accelerator.flops) if longest else 0.0
    return Roofline(seconds, mfu)
