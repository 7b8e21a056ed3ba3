"""Tasks: how training examples (source images, prompt, target) are made from images."""

from ditfuse_jax.tasks.control import Control
from ditfuse_jax.tasks.example import Example, PromptedImages, Task
from ditfuse_jax.tasks.ivif import IVIF
from ditfuse_jax.tasks.m3 import M3
from ditfuse_jax.tasks.make import TASKS, make_task
from ditfuse_jax.tasks.mef import MEF
from ditfuse_jax.tasks.mff import MFF
from ditfuse_jax.tasks.records import Records
from ditfuse_jax.tasks.segmentation import STREET_CLASSES, SceneMap, Segmentation, check_labels

__all__ = [
    "IVIF",
    "M3",
    "MEF",
    "MFF",
    "STREET_CLASSES",
    "TASKS",
    "Control",
    "Example",
    "PromptedImages",
    "Records",
    "SceneMap",
    "Segmentation",
    "Task",
    "check_labels",
    "make_task",
]
