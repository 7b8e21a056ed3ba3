"""Kinds and shapes of machines, with Google Cloud's names.

Sources: cloud.google.com/tpu/docs (v5e, v5p, v6e, tpu7x, runtimes),
cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus and .../how-to/gpus.
"""

import dataclasses
import math

from launch.errors import LaunchError

GPUS_PER_NODE = 8


@dataclasses.dataclass(frozen=True)
class TpuKind:
    """A generation of TPUs.

    Attributes:
      label: value of the node label `cloud.google.com/gke-tpu-accelerator`.
      machines: chips per host -> GKE machine type.
      max_chips: chips of the largest slice.
      topologies_2d: the two-dimensional topologies, or () if topologies have three dimensions.
      type: name in the Cloud TPU API, or "" if it is not available there.
      runtime: software version of a TPU VM.
    """

    label: str
    machines: dict[int, str]
    max_chips: int
    topologies_2d: tuple[str, ...] = ()
    type: str = ""
    runtime: str = ""

    def has(self, topology: str) -> bool:
        """Returns whether a slice of this shape exists; spelled as in Google's tables."""
        if self.topologies_2d:
            return topology in self.topologies_2d
        # Small slices are listed; larger ones have sides of multiples of 4, ascending (plan-tpus).
        if topology in ("2x2x1", "2x2x2", "2x2x4", "2x4x4"):
            return True
        sides = _sides(topology)
        return (
            len(sides) == 3
            and all(side and side % 4 == 0 for side in sides)
            and sides == sorted(sides)
            and math.prod(sides) <= self.max_chips
        )

    @property
    def topologies(self) -> str:
        """The topologies, for messages."""
        if self.topologies_2d:
            return ", ".join(self.topologies_2d)
        return (
            "2x2x1, 2x2x2, 2x2x4, 2x4x4, or AxBxC of multiples of 4 with A <= B <= C and at most "
            f"{self.max_chips} chips"
        )


_TOPOLOGIES_2D = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")

TPUS = {
    "v5e": TpuKind(
        label="tpu-v5-lite-podslice",
        machines={n: f"ct5lp-hightpu-{n}t" for n in (1, 4, 8)},
        max_chips=256,
        topologies_2d=_TOPOLOGIES_2D,
        type="v5litepod",
        runtime="v2-alpha-tpuv5-lite",
    ),
    "v5p": TpuKind(
        label="tpu-v5p-slice",
        machines={4: "ct5p-hightpu-4t"},
        max_chips=6144,
        type="v5p",
        runtime="v2-alpha-tpuv5",
    ),
    "v6e": TpuKind(
        label="tpu-v6e-slice",
        machines={n: f"ct6e-standard-{n}t" for n in (1, 4, 8)},
        max_chips=256,
        topologies_2d=_TOPOLOGIES_2D,
        type="v6e",
        runtime="v2-alpha-tpuv6e",
    ),
    "v7x": TpuKind(label="tpu7x", machines={4: "tpu7x-standard-4t"}, max_chips=9216),
}

# Kind -> (value of the node label `cloud.google.com/gke-accelerator`, machine type with 8 GPUs).
GPUS = {
    "a100-40gb": ("nvidia-tesla-a100", "a2-highgpu-8g"),
    "a100-80gb": ("nvidia-a100-80gb", "a2-ultragpu-8g"),
    "h100": ("nvidia-h100-80gb", "a3-highgpu-8g"),
    "h100-mega": ("nvidia-h100-mega-80gb", "a3-megagpu-8g"),
    "h200": ("nvidia-h200-141gb", "a3-ultragpu-8g"),
}


@dataclasses.dataclass(frozen=True)
class Tpu:
    """One or more equal TPU slices with one process per host.

    Attributes:
      kind: v5e, v5p, v6e or v7x (Ironwood).
      topology: shape of a slice in chips, like 4x4 or 4x4x8.
      slices: number of slices, connected by the data-centre network.
      chips_per_host: 1, 4 or 8; 0 selects 4, or 1 for a slice of one chip.

    Raises:
      LaunchError: the kind, topology or host size does not exist.
    """

    kind: str
    topology: str
    slices: int = 1
    chips_per_host: int = 0

    def __post_init__(self):
        if self.kind not in TPUS:
            raise LaunchError(f"TPU {self.kind!r} is unknown; choose from {', '.join(TPUS)}")
        if not TPUS[self.kind].has(self.topology):
            raise LaunchError(
                f"topology {self.topology!r} does not exist for {self.kind}: it has "
                f"{TPUS[self.kind].topologies}"
            )
        _check_count("slices", self.slices)
        if not self.chips_per_host:
            object.__setattr__(self, "chips_per_host", 1 if self.chips == 1 else 4)
        possible = [n for n in TPUS[self.kind].machines if self._fits(n)]
        if self.chips_per_host not in possible:
            raise LaunchError(
                f"chips_per_host is {self.chips_per_host}: hosts of {self.kind} {self.topology} "
                f"have {' or '.join(map(str, possible))}"
            )

    @property
    def chips(self) -> int:
        """Chips of one slice."""
        return math.prod(_sides(self.topology))

    @property
    def hosts(self) -> int:
        """Hosts of one slice."""
        return self.chips // self.chips_per_host

    @property
    def machine(self) -> str:
        """GKE's machine type."""
        return TPUS[self.kind].machines[self.chips_per_host]

    def _fits(self, chips_per_host: int) -> bool:
        # A host of 1 or 8 chips is always a slice by itself.
        if chips_per_host == 4:
            return self.chips >= 4
        return chips_per_host == self.chips


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Nodes with eight GPUs.

    Raises:
      LaunchError: the kind does not exist, or there is less than one node.
    """

    kind: str
    nodes: int = 1

    def __post_init__(self):
        if self.kind not in GPUS:
            raise LaunchError(f"GPU {self.kind!r} is unknown; choose from {', '.join(GPUS)}")
        _check_count("nodes", self.nodes)


@dataclasses.dataclass(frozen=True)
class Cpu:
    """Nodes without accelerators.

    Raises:
      LaunchError: there is less than one node.
    """

    nodes: int = 1

    def __post_init__(self):
        _check_count("nodes", self.nodes)


def _sides(topology: str) -> list[int]:
    parts = topology.split("x")
    # int() would also accept signs, spaces and leading zeros.
    known = all(part.isdecimal() and str(int(part)) == part for part in parts)
    return [int(part) for part in parts] if known else []


def _check_count(name: str, count: int) -> None:
    if not isinstance(count, int) or count < 1:
        raise LaunchError(f"{name} is {count!r}: it must be an integer of at least 1")
