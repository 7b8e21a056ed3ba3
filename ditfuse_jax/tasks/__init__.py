"""What the model is taught: each task makes training examples; a new one is a file and a line."""

from ditfuse_jax.tasks.example import Example, Task
from ditfuse_jax.tasks.ivif import IVIF
from ditfuse_jax.tasks.m3 import M3

TASKS: dict[str, Task] = {
    "m3": M3(),
    "ivif": IVIF(),
}

__all__ = ["IVIF", "M3", "TASKS", "Example", "Task"]
