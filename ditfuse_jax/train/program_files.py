"""What the run folder holds about each compiled step: its memory, and its HLO if asked for.

The folder is `compiled/HEIGHTxWIDTH`, by the size of the images of a batch.
"""

import dataclasses
from pathlib import Path

import jax

from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.train.memory import StepMemory
from ditfuse_jax.xla.hlo import parse_hlo
from ditfuse_jax.xla.memory import device_memory, largest_buffers, memory_sizes

FOLDER = "compiled"
MEMORY = "memory.txt"
BEFORE, AFTER = "before_optimization.hlo.txt", "after_optimization.hlo.txt"


def with_sizes(memory: StepMemory, compiled: jax.stages.Compiled) -> StepMemory:
    """Returns a step's memory with the compiler's sizes and the largest buffers."""
    text = compiled.as_text()
    buffers = largest_buffers(parse_hlo(text)) if text else []
    return dataclasses.replace(memory, sizes=memory_sizes(compiled), buffers=buffers)


def write_memory(memory: StepMemory, name: str, run: Path) -> str:
    """Writes the table of a step's memory and returns it.

    Args:
      memory: of the step.
      name: of the step's folder: `256x256`.
      run: the run folder.

    Raises:
      UserError: the file cannot be written.
    """
    table = memory.table(f"the training step for {name} pixels", device_memory().get("limit"))
    make_folder(run / FOLDER / name)
    write_text(run / FOLDER / name / MEMORY, table)
    return table


def write_hlo(
    lowered: jax.stages.Lowered, compiled: jax.stages.Compiled, name: str, run: Path
) -> None:
    """Writes a step's HLO before and after XLA's optimisation; see `write_memory`.

    Raises:
      UserError: a file cannot be written.
    """
    folder = run / FOLDER / name
    make_folder(folder)
    write_text(folder / BEFORE, lowered.as_text("hlo"))
    write_text(folder / AFTER, compiled.as_text() or "")
