"""The device mesh: four axes, each with a factor within slices and one across slices."""

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
    """Sizes of the mesh axes; at most one may be -1, which means all remaining devices.

    Attributes:
      data: number of replicas of the parameters, each with its share of the batch.
      fsdp: shards of parameters and batch.
      context: shards of the sequence.
      tensor: shards of attention heads and MLP.
      dcn_data: factor of the data axis across slices, or across hosts without fast interconnect;
        the axis has `data * dcn_data` devices.
      dcn_fsdp: factor of the fsdp axis across slices.
      dcn_context: factor of the context axis across slices.
      dcn_tensor: factor of the tensor axis across slices.

    Raises:
      UserError: a factor is invalid, or several are -1.
    """

    data: int = -1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1
    dcn_data: int = 1
    dcn_fsdp: int = 1
    dcn_context: int = 1
    dcn_tensor: int = 1

    def __post_init__(self):
        factors = dataclasses.asdict(self)
        for name, factor in factors.items():
            if factor < 1 and factor != -1:
                raise UserError(f"mesh.{name} must be at least 1, or -1, not {factor}")
        free = [f"mesh.{name}" for name, factor in factors.items() if factor == -1]
        if len(free) > 1:
            raise UserError(f"at most one mesh factor may be -1, not {' and '.join(free)}")

    def resolve(self, num_devices: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the factors within and across slices for a number of devices.

        Raises:
          UserError: the product of the factors is not the number of devices.
        """
        factors = dataclasses.asdict(self)
        free = [name for name, factor in factors.items() if factor == -1]
        fixed = math.prod(factor for factor in factors.values() if factor != -1)
        if free:
            factors[free[0]] = num_devices // fixed
        if math.prod(factors.values()) != num_devices:
            used = ", ".join(f"{name}={factor}" for name, factor in factors.items() if factor != 1)
            raise UserError(
                f"the mesh ({used or 'all 1'}) does not fit {num_devices} devices: "
                "change the mesh factors so that their product is that number"
            )
        values = tuple(factors.values())
        return values[: len(AXES)], values[len(AXES) :]


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Creates the mesh of all devices of all processes, or of the given devices.

    Raises:
      UserError: the factors do not fit the number of devices, or of slices.
    """
    devices = list(devices if devices is not None else jax.devices())
    inner, cross = config.resolve(len(devices))
    if math.prod(cross) > 1:
        # TPUs have slices; elsewhere the unit with fast interconnect is a process (host).
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
                f"mesh.{', mesh.'.join(factors)}: the product of the factors across slices must be "
                f"the number of slices or hosts ({error})"
            ) from error
    else:
        grid = mesh_utils.create_device_mesh(inner, devices)
    return Mesh(np.asarray(grid), AXES, axis_types=(AxisType.Auto,) * len(AXES))
