"""Out-of-memory errors of a run: what takes the memory, and which settings would take less."""

import contextlib
import dataclasses
from pathlib import Path
from types import TracebackType

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.model.remat import REMAT_POLICIES
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.train.compile import CompiledSteps
from ditfuse_jax.train.memory import StepMemory, checkpoint_bytes
from ditfuse_jax.xla.memory import (
    device_memory,
    largest_allocations,
    out_of_memory_bytes,
    readable,
)

REPORT = "out_of_memory.txt"
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change of settings that needs less memory.

    Attributes:
      settings: as on the command line, with a remark.
      saves: estimated bytes on one device.
    """

    settings: str
    saves: int


def remedies(step: StepMemory, total: int | None = None) -> list[Remedy]:
    """Returns the settings that would reduce a step's memory, the most effective first.

    Args:
      step: its memory.
      total: bytes that the step needs in all, if the compiler's sizes are not known.
    """
    recipe, partitioner = step.recipe, step.partitioner
    found: list[Remedy] = []

    def add(saves: float, settings: str) -> None:
        if saves > 0:
            found.append(Remedy(settings, int(saves)))

    activations = step.activations(total)
    size, accumulation = recipe.data.batch_size, recipe.step.accumulation
    examples = size // accumulation // partitioner.data_parallel  # at a time, on one device
    if examples > 1:
        parts = next(n for n in range(2, examples + 1) if examples % n == 0)
        less = activations * (1 - 1 / parts)
        sums = step.gradients if accumulation == 1 else 0
        add(
            less - sums,
            f"--config.train.accumulation={accumulation * parts} (the same batch, in more parts)",
        )
        add(less, f"--config.data.batch_size={size // parts}")
    batch, length = size // accumulation, step.layout.length
    for policy in ("full", "offload"):
        model = dataclasses.replace(recipe.model, remat=policy)
        saved = checkpoint_bytes(model, partitioner, batch, length)
        now = step.saved if REMAT_POLICIES.find(recipe.model.remat).saved else activations
        if policy != recipe.model.remat:
            add(now - saved, f"--config.model.remat={policy} (computes more again)")
            break
    draws = step.layout.draws
    if draws > 1:
        share = (draws - 1) * step.layout.draw_length / length
        add(activations * share, "--config.flow.draws=1")
    state = step.gradients + sum(
        step.arguments[name] for name in ("parameters", "moments", "averaged parameters")
    )
    replicas = partitioner.mesh.shape["data"] // recipe.mesh.dcn_data
    add(
        state * (1 - 1 / replicas),
        "--config.mesh.data=1 --config.mesh.fsdp=-1 (each device holds a part of the parameters)",
    )
    add(step.arguments["averaged parameters"], "--config.train.ema_decay=0")
    return sorted(found, key=lambda remedy: -remedy.saves)


class OutOfMemory(contextlib.AbstractContextManager):
    """Context in which an out-of-memory error of the devices becomes a `UserError`.

    Attributes:
      steps: the run's compiled steps, once there are some.
    """

    def __init__(self, run: Path):
        """Creates the context; `run` is the run folder, for the device's own message."""
        self.steps: CompiledSteps | None = None
        self._run = run

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises a `UserError` if the devices are out of memory."""
        if not isinstance(error, jax.errors.JaxRuntimeError):
            return
        message = str(error)
        if "RESOURCE_EXHAUSTED" not in message:
            return
        text = self._explain(message)
        path = self._run / REPORT
        if is_main_process():
            with contextlib.suppress(UserError):  # the memory is the error to report
                write_text(path, f"{text}\n\n{message}\n")
                text += f"; the device's message is in {path}"
        raise UserError(text) from error

    def _explain(self, message: str) -> str:
        needed = out_of_memory_bytes(message)
        step = self.steps.memory if self.steps else None
        if step is None:
            return (
                f"a device is out of memory before the first step ({message.splitlines()[0]}); "
                "divide the parameters over more devices (mesh.fsdp), set train.ema_decay=0, train "
                "adapters (lora.rank), or choose a smaller model"
            )
        limit = device_memory().get("limit")
        text = f"a device is out of memory ({message.splitlines()[0]})"
        if needed:
            text = f"a device is out of memory: {readable(needed[0])} of {readable(needed[1])}"
        elif step.sizes:
            of = f" of {readable(limit)}" if limit else ""
            text += f": the training step alone needs {readable(step.sizes.total)}{of}"
        allocations = dict(largest_allocations(message)) or dict(step.buffers)
        largest = sorted((step.consumers | allocations).items(), key=lambda item: -item[1])
        names = ", ".join(f"{name} {readable(size)}" for name, size in largest[:_LISTED] if size)
        text += f"; the largest: {names}"
        useful = remedies(step, needed[0] if needed else None)
        if useful:
            names = ", ".join(f"{one.settings}: {readable(one.saves)}" for one in useful[:_LISTED])
            text += f"; what takes less, and about how much: {names}"
        return text
