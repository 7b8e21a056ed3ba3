"""Restoring arrays on another mesh than the one that saved them, reading each byte about once.

Arrays are stored in chunks, and a chunk can only be read whole.  A mesh that shards arrays
differently from the one that saved them would read every chunk once per shard.  Arrays are
therefore read with shards that end at chunk borders, over as many devices as these allow, and then
resharded between the devices, which is far faster than storage.
"""

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

# Upper limit for the chunks of saved arrays, so that any mesh finds enough of them to share.
CHUNK_BYTES = 16 * 2**20
# Larger chunks (of checkpoints written otherwise) would not fit on each device.
_LARGEST_CHUNK = 4 * CHUNK_BYTES


def restore_resharded(
    read: Any, chunks: dict[str, tuple[int, ...]], targets: dict[str, Any]
) -> Any:
    """Reads arrays along their chunks, then reshards them.

    Args:
      read: maps a dict from names to abstract arrays to the arrays themselves.
      chunks: name -> shape of the array's chunks.
      targets: name -> abstract array with the wanted sharding.

    Returns:
      Name -> array, sharded as wanted.
    """
    placed = {name: _along_chunks(x, chunks.get(name)) for name, x in targets.items()}
    found = read(placed)
    moved = {name: x for name, x in found.items() if placed[name] is not targets[name]}
    if moved:
        wanted = {name: targets[name].sharding for name in moved}
        found |= jax.jit(lambda arrays: arrays, out_shardings=wanted, donate_argnums=0)(moved)
    return found


def _along_chunks(x: Any, chunk: tuple[int, ...] | None) -> Any:
    """Returns the abstract array to read: `x` itself if its sharding splits no chunk."""
    sharding = getattr(x, "sharding", None)
    if not isinstance(sharding, NamedSharding) or sharding.mesh.size == 1 or not chunk:
        return x
    size = x.dtype.itemsize
    for side in chunk:
        size *= side
    if size > _LARGEST_CHUNK:
        return x
    spec = chunk_spec(x.shape, chunk, sharding)
    if spec == _entries(sharding.spec, len(x.shape)):
        return x
    return jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=NamedSharding(sharding.mesh, PartitionSpec(*spec))
    )


def chunk_spec(
    shape: tuple[int, ...], chunk: tuple[int, ...], sharding: NamedSharding
) -> tuple[tuple[str, ...], ...]:
    """Returns mesh axes per dimension that split the array at chunk borders only.

    As many axes as possible are used.  An axis stays with the dimension where `sharding` has it, if
    the chunks allow.
    """
    wanted = _entries(sharding.spec, len(shape))
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


def _entries(spec: PartitionSpec, rank: int) -> tuple[tuple[str, ...], ...]:
    """The mesh axes of each of the `rank` dimensions."""
    entries = [(e,) if isinstance(e, str) else tuple(e or ()) for e in spec]
    return (*entries, *[()] * (rank - len(entries)))
