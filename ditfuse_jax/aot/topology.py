"""Accelerators that are not there: their description, for the compiler alone."""

import dataclasses
import math
import os
import re
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental import topologies

from ditfuse_jax.errors import UserError

# What users call a chip -> what the compiler calls it.
FAMILIES = {"v5e": "v5e", "v5p": "v5p", "v6e": "v6e", "v7x": "tpu7x"}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Slices of TPU chips.

    Attributes:
      family: a key of `FAMILIES`.
      shape: chips along each axis of one slice's torus: two axes for v5e and v6e, three for others.
      slices: equal slices, joined by the data centre's network.
    """

    family: str
    shape: tuple[int, ...]
    slices: int = 1

    @classmethod
    def parse(cls, text: str, slices: int = 1) -> "Topology":
        """Reads `v6e:16x16`.

        Raises:
          UserError: it is no TPU topology, or a GPU, for which there is no compiler without one.
        """
        family, _, shape = text.lower().partition(":")
        if re.match(r"(a|h|b|gb?)\d{2,3}", family):
            raise UserError(
                f"topology {text!r}: XLA compiles for a GPU only where such a GPU is; on it, "
                "`ditfuse bench train` measures what this command could only bound"
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
        """Chips of all slices."""
        return math.prod(self.shape) * self.slices

    def devices(self) -> list[Any]:
        """The devices as JAX would list them; they can be compiled for and nothing else.

        Raises:
          UserError: the TPU compiler is not installed, or knows no such topology.
        """
        if find_spec("libtpu") is None:
            raise UserError(
                "compiling for TPUs needs their compiler: pip install 'ditfuse-jax[compile]'"
            )
        # No TPU is used: nobody is asked which machine this is, and nobody is locked out.
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
