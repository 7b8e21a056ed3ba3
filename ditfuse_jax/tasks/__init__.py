"""What the model is taught: each task makes training examples; a new one is a file and a line."""

import functools
from collections.abc import Mapping
from typing import Any

from ditfuse_jax.degrade import M3_PRESETS
from ditfuse_jax.errors import UserError
from ditfuse_jax.tasks.control import Control
from ditfuse_jax.tasks.example import Example, PromptedImages, Task
from ditfuse_jax.tasks.ivif import IVIF
from ditfuse_jax.tasks.m3 import M3
from ditfuse_jax.tasks.mef import MEF
from ditfuse_jax.tasks.mff import MFF
from ditfuse_jax.tasks.records import Records
from ditfuse_jax.tasks.segmentation import STREET_CLASSES, SceneMap, Segmentation, check_labels

TASKS: dict[str, Task] = {
    "m3": M3(),
    "m3_extended": M3(M3_PRESETS["extended"], ("fusion", "restoration")),
    "ivif": IVIF(),
    "ivif_pyramid": IVIF("pyramid"),
    "ivif_gradient": IVIF("gradient"),
    "ivif_detail": IVIF("detail"),
    "mff": MFF(),
    "mef": MEF(),
    "mef_detail": MEF("detail"),
    "control_m3": Control(M3()),
    "control_ivif": Control(IVIF("detail")),
    "control_mff": Control(MFF()),
    "control_mef": Control(MEF("detail")),
    "segmentation": Segmentation(),
    "scene": SceneMap(),
    "records": Records(),
    "records_1": Records(1),
    "records_3": Records(3),
    "records_4": Records(4),
}


@functools.cache
def find_task(name: str) -> Task:
    """Returns the task that a recipe names.

    Args:
      name: a key of `TASKS`; those of M3 take settings after a colon, see `M3.changed`.

    Raises:
      UserError: no such task or setting.
    """
    name, colon, settings = name.partition(":")
    if name not in TASKS:
        raise UserError(f"task {name!r} is unknown; choose from {', '.join(TASKS)}")
    task = TASKS[name]
    if not colon:
        return task
    if not isinstance(task, M3):
        raise UserError(f"task {name!r} has no settings to change: leave {colon + settings} away")
    return task.changed(settings)


def make_task(spec: str | Mapping[str, Any]) -> Task:
    """Returns the task that a recipe describes.

    Args:
      spec: see `find_task`, or a mapping of `name` and the task's settings, such as
        `{"name": "m3", "overlap_fraction": 0.5}`.

    Raises:
      UserError: no such task or setting.
    """
    if isinstance(spec, str):
        return find_task(spec)
    options = dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f"a task needs a name: choose from {', '.join(TASKS)}")
    words = [f"{key}={_option_text(value)}" for key, value in options.items()]
    return find_task(f"{name}:{','.join(words)}" if words else name)


def _option_text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


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
    "find_task",
    "make_task",
]
