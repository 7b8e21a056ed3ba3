"""Which device reads what of a checkpoint, so that each byte is read about once.

Arrays are stored in chunks, and a chunk is read whole or not at all.  A mesh that cuts arrays
otherwise than the one that saved them would read every chunk once per piece; so arrays are read cut
between chunks, spread as widely as these allow, and then moved to where they belong between the
devices, which is far faster than storage.
"""

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

# Chunks of a saved array are no larger, so that any mesh finds enough of them to spread.
CHUNK_BYTES = 16 * 2**20
# A larger chunk (of a checkpoint written otherwise) would be too much for each device to hold.
_WHOLE_BYTES = 4 * CHUNK_BYTES


def restore_moving(read: Any, stored: dict[str, tuple[int, ...]], targets: dict[str, Any]) -> Any:
    """Reads arrays along their chunks, then moves them.

    Args:
      read: takes name -> abstract value to what it read.
      stored: shape of an array's chunks, by name.
      targets: name -> abstract value as it is wanted.

    Returns:
      Name -> array, placed as wanted.
    """
    placed = {name: _along_chunks(x, stored.get(name)) for name, x in targets.items()}
    found = read(placed)
    moved = {name: x for name, x in found.items() if placed[name] is not targets[name]}
    if moved:
        wanted = {name: targets[name].sharding for name in moved}
        found |= jax.jit(lambda arrays: arrays, out_shardings=wanted, donate_argnums=0)(moved)
    return found


def _along_chunks(x: Any, chunk: tuple[int, ...] | None) -> Any:
    """The abstract value as it is read: itself where that cuts no chunk."""
    sharding = getattr(x, "sharding", None)
    if not isinstance(sharding, NamedSharding) or sharding.mesh.size == 1 or not chunk:
        return x
    size = x.dtype.itemsize
    for side in chunk:
        size *= side
    if size > _WHOLE_BYTES:
        return x
    spec = chunk_spec(x.shape, chunk, sharding)
    if spec == _full(sharding.spec, len(x.shape)):
        return x
    return jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=NamedSharding(sharding.mesh, PartitionSpec(*spec))
    )


def chunk_spec(
    shape: tuple[int, ...], chunk: tuple[int, ...], sharding: NamedSharding
) -> tuple[tuple[str, ...], ...]:
    """Mesh axes per dimension that cut the array between chunks only, as many as possible.

    An axis stays with the dimension where `sharding` has it, if the chunks allow.
    """
    wanted = _full(sharding.spec, len(shape))
    taken: list[tuple[str, ...]] = [()] * len(shape)
    pieces = [1] * len(shape)

    def take(axis: str, dimension: int) -> bool:
        count = pieces[dimension] * sharding.mesh.shape[axis]
        if shape[dimension] % count or shape[dimension] // count % chunk[dimension]:
            return False
        taken[dimension] += (axis,)
        pieces[dimension] = count
        return True

    left = [axis for axis, size in sharding.mesh.shape.items() if size > 1]
    for dimension, axes in enumerate(wanted):
        for axis in axes:
            if axis in left and take(axis, dimension):
                left.remove(axis)
    for axis in left:
        any(take(axis, dimension) for dimension in range(len(shape)))
    return tuple(taken)


def _full(spec: PartitionSpec, rank: int) -> tuple[tuple[str, ...], ...]:
    entries = [(e,) if isinstance(e, str) else tuple(e or ()) for e in spec]
    return (*entries, *[()] * (rank - len(entries)))
