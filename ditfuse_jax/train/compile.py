"""Compiled training steps."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.train.recorder import example_flops
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import Frozen, TrainState, shardings_of
from ditfuse_jax.train.step import Batch, TrainStep


class CompiledSteps:
    """The compiled training step of every shape of a batch, compiled when the shape comes first."""

    def __init__(
        self,
        make_step: Callable[[], TrainStep],
        recipe: Recipe,
        partitioner: Partitioner,
        abstract: TrainState,
        frozen: Frozen,
    ):
        self._make_step, self._recipe, self._partitioner = make_step, recipe, partitioner
        self._abstract, self._frozen = abstract, frozen
        self._compiled: dict[tuple[int, ...], tuple[Callable, float]] = {}

    def find(self, batch: Batch) -> tuple[Callable, float] | None:
        """Returns the step for a batch and the FLOPs of the model per step, if it is compiled."""
        return self._compiled.get(batch["target"].shape)

    def compile(self, batch: Batch) -> tuple[Callable, float]:
        """Compiles the step for batches like this one; see `find`.

        The FLOPs are those of this first batch, whose prompts are taken as typical.
        """
        step = compile_step(
            self._make_step(), self._partitioner, self._abstract, self._frozen, batch
        )
        flops = example_flops(self._recipe, batch) * self._recipe.data.batch_size
        self._compiled[batch["target"].shape] = step, flops
        return step, flops


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
