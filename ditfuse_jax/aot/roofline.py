"""The least time that a program can take: whichever of its needs is slowest, all else hidden.

This is a bound and not a measurement: it grants perfect overlap, peak rates and links that all
carry an equal share (Williams et al. 2009, "Roofline").
"""

import dataclasses

from ditfuse_jax.parallel.accelerators import Accelerator


@dataclasses.dataclass(frozen=True)
class Work:
    """What one device does in one run of a program.

    Attributes:
      flops: of matrix products.
      hbm: bytes to and from memory.
      ici: bytes sent inside a slice.
      dcn: bytes sent to other slices.
    """

    flops: float
    hbm: float
    ici: float
    dcn: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Attributes:
    seconds: the least time by need: `matrix`, `hbm`, `ici`, `dcn`.
    mfu: the most that model FLOPs can be of the peak over that time.
    """

    seconds: dict[str, float]
    mfu: float

    @property
    def bottleneck(self) -> str:
        """The need that takes longest."""
        return max(self.seconds, key=lambda need: self.seconds[need])

    @property
    def min_seconds(self) -> float:
        return self.seconds[self.bottleneck]


def roofline(work: Work, model_flops: float, chip: Accelerator) -> Roofline:
    """The bound of one device's work; `model_flops` is the device's share of the model's."""
    seconds = {
        "matrix": work.flops / chip.flops,
        "hbm": work.hbm / chip.hbm_bandwidth,
        "ici": work.ici / chip.ici_bandwidth,
        "dcn": work.dcn / chip.dcn_bandwidth,
    }
    least = max(seconds.values())
    return Roofline(seconds, model_flops / (least * chip.flops) if least else 0.0)
