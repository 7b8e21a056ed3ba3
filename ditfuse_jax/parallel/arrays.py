"""Arrays that every process holds, onto the mesh and back."""

import jax
import numpy as np

from ditfuse_jax.parallel.rules import Sharder


def distribute(array: np.ndarray, sharder: Sharder, batch_axis: int | None = 0) -> jax.Array:
    """Puts an array, the same in all processes, on the mesh: its batch over the data axes.

    What has no batch axis, or one that does not divide evenly, lies whole on every device.
    """
    axes = ["batch" if axis == batch_axis else None for axis in range(array.ndim)]
    sharding = sharder.activation(tuple(axes), array.shape)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def gather(array: jax.Array, sharder: Sharder) -> np.ndarray:
    """The whole of an array of the mesh, in every process; all must call it."""
    whole = jax.jit(lambda x: x, out_shardings=sharder.replicated())(array)
    return np.asarray(whole.addressable_data(0))
