"""Compiled training steps."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.parallel.compiler_options import compile_with_options, compiler_options
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.registry import num_registrations
from ditfuse_jax.train.console import Console
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.memory import StepMemory
from ditfuse_jax.train.program_files import with_sizes, write_hlo, write_memory
from ditfuse_jax.train.recorder import example_flops
from ditfuse_jax.train.state import Frozen, TrainState, shardings_of
from ditfuse_jax.train.step import Batch, TrainStep

if TYPE_CHECKING:
    from ditfuse_jax.train.setup import Setup

# Steps that this process compiled last, with their sizes: a notebook that trains again or goes on
# with a run does not compile them again.  Steps hold no arrays.
NUM_RECENT = 4
_recent: dict[Hashable, tuple[Any, StepMemory]] = {}


class CompiledSteps:
    """The compiled training step of each shape of batches.

    Attributes:
      memory: of the step that was compiled last, or did not fit; None before the first.
    """

    def __init__(self, setup: "Setup", goodput: Goodput, console: Console):
        self.memory: StepMemory | None = None
        self._setup, self._goodput, self._console = setup, goodput, console
        self._compiled: dict[tuple[int, ...], tuple[Callable, float]] = {}

    def get(self, batch: Batch) -> tuple[Callable, float]:
        """Returns the step for a batch, compiled if the shape is new, and its model FLOPs.

        The FLOPs are those of the first batch of the shape, whose prompts are taken as typical.
        """
        shape = batch["target"].shape
        if shape not in self._compiled:
            recipe = self._setup.recipe
            with self._goodput.measure("compile"):
                step = self._compile(batch)
            flops = example_flops(recipe, batch) * recipe.data.batch_size
            self._compiled[shape] = step, flops
        return self._compiled[shape]

    def _compile(self, batch: Batch) -> Callable:
        """Compiles the step and writes about it to the run folder."""
        setup = self._setup
        inputs = setup.partitioner, setup.abstract, setup.frozen, batch
        self.memory = StepMemory.of(setup.recipe, *inputs)
        train = setup.recipe.train
        key = None if train.dump_hlo else _program_key(setup, batch)
        recent = None if key is None else _recent.pop(key, None)
        lowered = None
        if recent is None:
            lowered = lower_step(setup.make_step(), *inputs)
            compiled = setup.compiled.get(batch["target"].shape)
            if compiled is None:
                device = setup.partitioner.mesh.devices.flat[0]
                options = compiler_options(train.compiler_options, device)
                compiled = compile_with_options(lowered, options)
            self.memory = with_sizes(self.memory, compiled)
        else:
            compiled, measured = recent
            self.memory = dataclasses.replace(
                self.memory, sizes=measured.sizes, buffers=measured.buffers
            )
        if key is not None:
            _recent[key] = compiled, self.memory
            while len(_recent) > NUM_RECENT:
                del _recent[next(iter(_recent))]
        if is_main_process():
            height, width = batch["target"].shape[1:3]
            name = f"{height}x{width}"
            self._console.print(write_memory(self.memory, name, setup.run.path).rstrip())
            if train.dump_hlo and lowered is not None:
                write_hlo(lowered, compiled, name, setup.run.path)
        return compiled


def _program_key(setup: "Setup", batch: Batch) -> Hashable | None:
    """Returns all that the program of a step depends on; None if it cannot be compared."""
    recipe = setup.recipe
    leaves, structure = jax.tree.flatten((setup.abstract, setup.frozen, batch))
    key = (
        setup.graph,
        setup.space,
        recipe.step,
        recipe.optimizer,
        recipe.train.steps,  # of the learning rate's schedule
        recipe.mesh,
        recipe.train.compiler_options,
        setup.partitioner.mesh,
        structure,
        tuple((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves),
        jax.config.jax_default_matmul_precision,  # pyright: ignore[reportAttributeAccessIssue]
        num_registrations(),
    )
    try:
        hash(key)
    except TypeError:  # e.g. a time sampler of the user's that has no hash
        return None
    return key


def compile_step(
    step: TrainStep,
    partitioner: Partitioner,
    abstract: TrainState,
    frozen: Frozen,
    batch: Batch,
    settings: Sequence[str] = (),
) -> Any:
    """Compiles the step before its first call; the buffers of the state are donated.

    Args:
      step: see `make_train_step`.
      partitioner: of the mesh.
      abstract: the state.
      frozen: what the step reads and never changes.
      batch: may be abstract.
      settings: `train.compiler_options`.

    Raises:
      UserError: the compiler refuses one of its options.
    """
    lowered = lower_step(step, partitioner, abstract, frozen, batch)
    options = compiler_options(settings, partitioner.mesh.devices.flat[0])
    return compile_with_options(lowered, options)


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
