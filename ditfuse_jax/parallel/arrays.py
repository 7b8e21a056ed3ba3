"""Transfers of arrays between all processes and the mesh."""

import jax
import numpy as np

from ditfuse_jax.parallel.rules import Partitioner


def distribute(
    array: np.ndarray, partitioner: Partitioner, batch_axis: int | None = 0
) -> jax.Array:
    """Places an array, which is equal in all processes, on the mesh.

    Args:
      array: the whole array.
      partitioner: the mesh and its rules.
      batch_axis: the dimension that is sharded over the data axes; None to replicate the array.  A
        dimension whose size is not divisible is replicated too.
    """
    axes = ["batch" if axis == batch_axis else None for axis in range(array.ndim)]
    sharding = partitioner.activation(tuple(axes), array.shape)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def missing_rows(count: int, partitioner: Partitioner | None) -> int:
    """Returns how many rows a batch lacks to be divisible by the devices that share it.

    A single row lacks none: all devices compute it, in the time of one.
    """
    return 0 if partitioner is None or count == 1 else -count % partitioner.data_parallel


def gather(array: jax.Array, partitioner: Partitioner) -> np.ndarray:
    """Returns the whole array in every process; all processes must call it."""
    whole = jax.jit(lambda x: x, out_shardings=partitioner.replicated())(array)
    return np.asarray(whole.addressable_data(0))
