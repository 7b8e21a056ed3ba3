"""Descriptions of TPU topologies, for which programs can be compiled without the hardware."""

import dataclasses
import math
import os
import re
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental import topologies

from ditfuse_jax.errors import UserError

# Name of a chip for users -> for the compiler.
FAMILIES = {"v5e": "v5e", "v5p": "v5p", "v6e": "v6e", "v7x": "tpu7x"}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Slices of TPU chips.

    Attributes:
      family: a key of `FAMILIES`.
      shape: chips along each axis of one slice's torus: two axes for v5e and v6e, three for others.
      slices: number of equal slices, connected by the data centre's network.
    """

    family: str
    shape: tuple[int, ...]
    slices: int = 1

    @classmethod
    def parse(cls, text: str, slices: int = 1) -> "Topology":
        """Parses a topology like `v6e:16x16`.

        Raises:
          UserError: the text is not a TPU topology, or names a GPU, which XLA must have to compile.
        """
        family, _, shape = text.lower().partition(":")
        if re.match(r"(a|h|b|gb?)\d{2,3}", family):
            raise UserError(
                f"topology {text!r}: XLA compiles for GPUs only on a machine with such a GPU; "
                "there, `ditfuse bench train` measures the time"
            )
        if family not in FAMILIES or not re.fullmatch(r"\d+(x\d+)+", shape):
            raise UserError(
                f"topology {text!r} is unknown: write the chip ({', '.join(FAMILIES)}) and the "
                "chips along each axis of a slice, like v6e:16x16 or v5p:4x4x4"
            )
        if slices < 1:
            raise UserError(f"slices must be at least 1, not {slices}")
        return cls(family, tuple(map(int, shape.split("x"))), slices)

    def __str__(self) -> str:
        one = f"{self.family}:{'x'.join(map(str, self.shape))}"
        return one if self.slices == 1 else f"{self.slices} x {one}"

    @property
    def chips(self) -> int:
        """Number of chips of all slices."""
        return math.prod(self.shape) * self.slices

    def devices(self) -> list[Any]:
        """Returns the devices as JAX lists them; programs can only be compiled for them.

        Raises:
          UserError: the TPU compiler is not installed or does not support the topology.
        """
        if find_spec("libtpu") is None:
            raise UserError(
                "compiling for TPUs requires libtpu: pip install 'ditfuse-jax[compile]'"
            )
        # No TPU is used: skip the query of the machine's metadata and the lock of the device.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        name = f"{FAMILIES[self.family]}:{'x'.join(map(str, self.shape))}"
        more = {"num_slices": self.slices} if self.slices > 1 else {}
        try:
            described = topologies.get_topology_desc(name, platform="tpu", **more)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"topology {self}: the TPU compiler refuses it ({reason})") from error
        return list(described.devices)
