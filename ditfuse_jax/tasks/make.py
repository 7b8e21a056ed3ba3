"""The registry of tasks, and how a recipe names one of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ditfuse_jax.degrade import M3_PRESETS
from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry
from ditfuse_jax.tasks.control import Control
from ditfuse_jax.tasks.example import Task
from ditfuse_jax.tasks.ivif import IVIF
from ditfuse_jax.tasks.m3 import M3
from ditfuse_jax.tasks.mef import MEF
from ditfuse_jax.tasks.mff import MFF
from ditfuse_jax.tasks.options import parse_options, replace_options
from ditfuse_jax.tasks.records import Records
from ditfuse_jax.tasks.requested import Requested
from ditfuse_jax.tasks.segmentation import SceneMap, Segmentation
from ditfuse_jax.tasks.street_views import StreetViews
from ditfuse_jax.tasks.streets import Streets

# Photographs by day and night, with and without infrared, in varied light and weather.
_VARIED = StreetViews({"clean": 1.0, "m3": 2.0, "infrared": 2.0}, augment=0.6)

# An entry is a task with its default options, or a class of tasks that needs no arguments.
TASKS: Registry[Task] = Registry(
    "training task",
    {
        "m3": M3(),
        "m3_extended": M3(M3_PRESETS["extended"], ("fusion", "restoration")),
        "m3_misaligned": M3(misalign=0.5),
        "ivif": IVIF(),
        "ivif_pyramid": IVIF("pyramid"),
        "ivif_gradient": IVIF("gradient"),
        "ivif_detail": IVIF("detail"),
        "ivif_misaligned": IVIF("detail", misalign=0.5),
        "mff": MFF(),
        "mef": MEF(),
        "mef_detail": MEF("detail"),
        "control_m3": Control(M3()),
        "control_ivif": Control(IVIF("detail")),
        "control_mff": Control(MFF()),
        "control_mef": Control(MEF("detail")),
        "requested_ivif": Requested(IVIF("detail")),
        "requested_mff": Requested(MFF()),
        "requested_mef": Requested(MEF("detail")),
        "requested_m3": Requested(M3(M3_PRESETS["extended"])),
        "requested_streets": Requested(Streets()),
        "streets": Streets(),
        "segmentation": Segmentation(),
        "segmentation_varied": Segmentation(_VARIED),
        "scene": SceneMap(),
        "scene_varied": SceneMap(_VARIED),
        "records": Records(),
        "records_1": Records(1),
        "records_3": Records(3),
        "records_4": Records(4),
    },
)


def make_task(spec: str | Mapping[str, Any] | Task) -> Task:
    """Returns the task that a recipe describes.

    Args:
      spec: a key of `TASKS`, `m3`; one with options as text, `m3:block_sides=32+64,
        overlap_fraction=0.5`; the same as a dict, `{"name": "m3", "block_sides": (32, 64)}`; or a
        task, which is returned.  The options are the fields of the task's dataclass, see
        `options.replace_options`.

    Raises:
      UserError: no such task or option, or a bad value.
    """
    if isinstance(spec, str):
        name, colon, text = spec.partition(":")
        try:
            options: dict[str, Any] = dict(parse_options(text)) if colon else {}
        except ValueError as error:
            raise UserError(
                f"task {spec!r}: {error}; options look like m3:block_sides=32+64,"
                "overlap_fraction=0.5"
            ) from error
    elif isinstance(spec, Mapping):
        options = dict(spec)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise UserError(f"task {dict(spec)} lacks its name: write {{'name': 'm3', ...}}")
    else:
        return spec
    entry: Any = TASKS.find(name)
    task: Any = entry() if isinstance(entry, type) else entry
    if not options:
        return task
    if not dataclasses.is_dataclass(task):
        raise UserError(f"task {name!r} has no options: it is not a dataclass")
    try:
        changed: Any = replace_options(task, options, make_task)
        return changed
    except UserError as error:
        raise UserError(f"task {name!r}: {error}") from error
