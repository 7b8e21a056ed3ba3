"""The device mesh: four axes, each with a factor inside a slice and one across slices."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from ditfuse_jax.errors import UserError

AXES = ("data", "fsdp", "context", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; -1 in at most one place means "what is left".

    Attributes:
      data: replicas of the parameters, each with its share of the batch.
      fsdp: shards of parameters and batch.
      context: shards of the sequence.
      tensor: shards of heads and MLP.
      dcn_data: the same across slices (or hosts without a fast interconnect); the axis has
        `data * dcn_data` devices.
      dcn_fsdp: likewise.
      dcn_context: likewise.
      dcn_tensor: likewise.
    """

    data: int = -1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1
    dcn_data: int = 1
    dcn_fsdp: int = 1
    dcn_context: int = 1
    dcn_tensor: int = 1

    def resolve(self, num_devices: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the (in-slice, cross-slice) factors for this many devices.

        Raises:
          UserError: the factors do not multiply to the number of devices.
        """
        names = (*AXES, *(f"dcn_{axis}" for axis in AXES))
        factors = {name: getattr(self, name) for name in names}
        free = [name for name, factor in factors.items() if factor == -1]
        bad = [name for name, factor in factors.items() if factor < 1 and factor != -1]
        if bad or len(free) > 1:
            what = f"mesh.{bad[0]} is {factors[bad[0]]}" if bad else f"mesh has {free} free"
            raise UserError(f"{what}: factors are at least 1, and at most one may be -1")
        fixed = math.prod(factor for factor in factors.values() if factor != -1)
        if free:
            factors[free[0]] = num_devices // fixed
        if math.prod(factors.values()) != num_devices:
            told = ", ".join(f"{name}={factor}" for name, factor in factors.items() if factor != 1)
            raise UserError(
                f"the mesh ({told or 'all 1'}) does not fit {num_devices} devices: "
                "change the mesh factors so that they multiply to that number"
            )
        values = tuple(factors.values())
        return values[: len(AXES)], values[len(AXES) :]


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Builds the mesh over all devices (of all processes) or the given ones.

    Raises:
      UserError: see `MeshConfig.resolve`.
    """
    devices = list(devices if devices is not None else jax.devices())
    inner, cross = config.resolve(len(devices))
    if math.prod(cross) > 1:
        # Slices are known on TPU; elsewhere a process (host) is the unit of fast interconnect.
        sliced = len({getattr(device, "slice_index", 0) for device in devices}) > 1
        try:
            grid = mesh_utils.create_hybrid_device_mesh(
                inner, cross, devices, process_is_granule=not sliced
            )
        except ValueError as error:
            factors = [
                f"dcn_{axis}" for axis, factor in zip(AXES, cross, strict=True) if factor > 1
            ]
            raise UserError(
                f"mesh.{', mesh.'.join(factors)} need as many slices or hosts: {error}"
            ) from error
    else:
        grid = mesh_utils.create_device_mesh(inner, devices)
    return Mesh(np.asarray(grid), AXES, axis_types=(AxisType.Auto,) * len(AXES))
