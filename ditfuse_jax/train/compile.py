"""Compiled training steps."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.recorder import example_flops
from ditfuse_jax.train.setup import Setup
from ditfuse_jax.train.state import Frozen, TrainState, shardings_of
from ditfuse_jax.train.step import Batch, TrainStep


class CompiledSteps:
    """The compiled training step of each shape of batches."""

    def __init__(self, setup: Setup, goodput: Goodput):
        self._setup, self._goodput = setup, goodput
        self._compiled: dict[tuple[int, ...], tuple[Callable, float]] = {}

    def get(self, batch: Batch) -> tuple[Callable, float]:
        """Returns the step for a batch, compiled if the shape is new, and its model FLOPs.

        The FLOPs are those of the first batch of the shape, whose prompts are taken as typical.
        """
        shape = batch["target"].shape
        if shape not in self._compiled:
            setup = self._setup
            with self._goodput.measure("compile"):
                step = compile_step(
                    setup.make_step(), setup.partitioner, setup.abstract, setup.frozen, batch
                )
            flops = example_flops(setup.recipe, batch) * setup.recipe.data.batch_size
            self._compiled[shape] = step, flops
        return self._compiled[shape]


def compile_step(
    step: TrainStep, partitioner: Partitioner, abstract: TrainState, frozen: Frozen, batch: Batch
) -> Callable:
    """Compiles the step before its first call; the buffers of the state are donated."""
    return lower_step(step, partitioner, abstract, frozen, batch).compile()


def lower_step(
    step: TrainStep, partitioner: Partitioner, abstract: TrainState, frozen: Frozen, batch: Batch
) -> jax.stages.Lowered:
    """Lowers the step; all arguments may be abstract."""
    out_shardings = (shardings_of(abstract), partitioner.replicated())
    jitted = jax.jit(step, donate_argnums=0, out_shardings=out_shardings)
    return jitted.lower(abstract, frozen, batch)


def to_devices(batch: Mapping[str, Any], partitioner: Partitioner) -> dict[str, jax.Array]:
    """Turns this process's rows of a batch into global arrays."""
    sharding = partitioner.batch()
    if jax.process_count() == 1:  # one call for all arrays takes a third of the time
        return jax.device_put(dict(batch), sharding)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
