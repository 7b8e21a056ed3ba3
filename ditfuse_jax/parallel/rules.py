"""The sharding rules: over which mesh axes each logical axis is sharded.

Other modules add a logical axis with `RULES.register(name, mesh_axes)`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.logical_axes import Axes, axes_of
from ditfuse_jax.model.quantization import LEAVES, QUANTIZED_LAYERS
from ditfuse_jax.registry import Registry

if TYPE_CHECKING:
    from flax import nnx

# Logical axis -> mesh axes.
Rules = Mapping[str, tuple[str, ...]]

_RULES: Rules = {
    # activations
    "batch": ("data", "fsdp"),
    "sequence": ("context",),
    "activation": (),
    # parameters
    "layers": (),
    "embed": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head_dim": (),
    "mlp": ("tensor",),
    "norm": (),
}
RULES: Registry[tuple[str, ...]] = Registry("sharding rule", _RULES)


@dataclasses.dataclass(frozen=True, eq=False)
class Partitioner:
    """Computes shardings on one mesh from logical axes; compared by identity.

    Attributes:
      mesh: the device mesh.
      rules: logical axis -> mesh axes.
    """

    mesh: Mesh
    rules: Rules = dataclasses.field(default_factory=lambda: RULES)

    def spec(self, axes: Axes, name: str = "tensor") -> PartitionSpec:
        """Returns the partition spec of a tensor.

        Args:
          axes: logical axes of its dimensions.
          name: name of the tensor, for error messages.

        Raises:
          UserError: an axis has no rule, or two dimensions map to the same mesh axis.
        """
        used: dict[str, str] = {}
        entries: list[tuple[str, ...] | None] = []
        for axis in axes:
            if axis is None:
                entries.append(None)
                continue
            if axis not in self.rules:
                raise UserError(f"{name}: logical axis {axis!r} has no sharding rule")
            # Mesh axes of size 1 are left out: they shard nothing.
            mesh_axes = tuple(m for m in self.rules[axis] if self.mesh.shape[m] > 1)
            for mesh_axis in mesh_axes:
                if mesh_axis in used:
                    raise UserError(
                        f"{name}: axes {used[mesh_axis]!r} and {axis!r} both map to mesh axis "
                        f"{mesh_axis!r}; change one of their rules"
                    )
                used[mesh_axis] = axis
            entries.append(mesh_axes or None)
        return PartitionSpec(*entries)

    def parameter(self, axes: Axes, shape: tuple[int, ...], name: str) -> NamedSharding:
        """Returns the sharding of a parameter.

        Raises:
          UserError: see `spec`; or a dimension is not divisible by the size of its mesh axes.
        """
        spec = self.spec(axes, name)
        for axis, size, entry in zip(axes, shape, spec, strict=True):
            parts = self._parts(entry)
            if size % parts:
                raise UserError(
                    f"{name}: dimension {axis!r} of size {size} is not divisible by the "
                    f"{parts} devices of mesh axes {entry}; change the mesh or the model's size"
                )
        return NamedSharding(self.mesh, spec)

    def activation(self, axes: Axes, shape: tuple[int, ...]) -> NamedSharding:
        """Returns the sharding of an activation; indivisible dimensions are not sharded."""
        return self._where_divisible(self.spec(axes, "activation"), shape)

    def batch(self) -> NamedSharding:
        """Returns the sharding of input batches: the leading dimension over the data axes."""
        return NamedSharding(self.mesh, self.spec(("batch",), "batch"))

    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def data_parallel(self) -> int:
        """Number of shards of a batch."""
        return self._parts(self.spec(("batch",), "batch")[0])

    def check_batch(self, size: int, accumulation: int) -> None:
        """Checks that a batch can be divided evenly over devices and accumulation steps.

        Raises:
          UserError: it cannot; the message names the nearest size that can.
        """
        parts = self.data_parallel * accumulation
        if size % parts or size < 1:
            nearest = max(parts, round(size / parts) * parts)
            raise UserError(
                f"data.batch_size {size} is not divisible by {parts} (data-parallel devices x "
                f"accumulation {accumulation}); use e.g. {nearest}"
            )

    def parameters(self, state: "nnx.State") -> Any:
        """Returns the shardings of a model state, nested like `nnx.to_pure_dict(state)`.

        Indivisible dimensions of quantised kernels are not sharded: blocks are fewer than inputs.

        Raises:
          UserError: see `parameter`.
        """
        from flax import nnx

        shardings: dict[tuple, NamedSharding] = {}
        for path, variable in nnx.to_flat_state(state):
            axes, shape, name = axes_of(variable), variable.shape, ".".join(map(str, path))
            if path[:-1] in QUANTIZED_LAYERS and path[-1] in LEAVES:
                shardings[path] = self._where_divisible(self.spec(axes, name), shape)
            else:
                shardings[path] = self.parameter(axes, shape, name)
        return _nest(shardings)

    def _where_divisible(self, spec: PartitionSpec, shape: tuple[int, ...]) -> NamedSharding:
        entries = [
            entry if size % self._parts(entry) == 0 else None
            for size, entry in zip(shape, spec, strict=True)
        ]
        return NamedSharding(self.mesh, PartitionSpec(*entries))

    def _parts(self, entry: tuple[str, ...] | str | None) -> int:
        names = (entry,) if isinstance(entry, str) else entry or ()
        return math.prod(self.mesh.shape[name] for name in names)


def shard_like(tree: Any, shardings: Any) -> Any:
    """Returns abstract values with shardings of the same structure attached."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        shardings,
    )


def _nest(flat: dict[tuple, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, leaf in flat.items():
        inner = nested
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = leaf
    return nested
