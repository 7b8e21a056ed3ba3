"""Requests as arrays: what the parser is trained to predict."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import (
    AXES,
    CLASSES,
    DEFECTS,
    LEVELS,
    MAX_REQUESTS,
    ROLES,
    Request,
    subject,
)

# Output -> number of values for each request slot.  In `axis` and `role` the last one means none.
OUTPUTS = {
    "axis": len(AXES) + 1,
    "level": len(LEVELS),
    "role": len(ROLES) + 1,
    "defect": len(DEFECTS),
    "classes": len(CLASSES),
}
NO_AXIS, NO_ROLE = len(AXES), len(ROLES)
_IGNORED = -1


def to_labels(batch: Sequence[Sequence[Request]]) -> dict[str, np.ndarray]:
    """Returns the labels of B instructions.

    Returns:
      `axis`, `level`, `role` and `defect`: int32 (B, 3), -1 where a slot has no such property;
      `classes`: float32 (B, 3, C), 1 for the classes of the request.
    """
    shape = len(batch), MAX_REQUESTS
    labels = {name: np.full(shape, _IGNORED, np.int32) for name in OUTPUTS if name != "classes"}
    labels["axis"][:] = NO_AXIS
    classes = np.zeros((*shape, len(CLASSES)), np.float32)
    for row, requests in enumerate(batch):
        for slot, request in enumerate(requests):
            place = row, slot
            labels["axis"][place] = AXES.index(request.axis)
            if request.level:
                labels["level"][place] = LEVELS.index(request.level)
            if request.axis in ("emphasis", "repair"):
                role = request.role
                labels["role"][place] = NO_ROLE if role is None else ROLES.index(role)
            if request.defect is not None:
                labels["defect"][place] = DEFECTS.index(request.defect)
            for name in request.classes:
                classes[(*place, CLASSES.index(name))] = 1
    return labels | {"classes": classes}


def to_requests(logits: Mapping[str, np.ndarray]) -> tuple[Request, ...]:
    """Returns the most probable requests of one instruction.

    Args:
      logits: `OUTPUTS`, (3, values) each.

    A slot whose values do not form a request counts as none, and so does one about the same as an
    earlier slot, and one that repeats a request about some classes for the whole image.
    """
    requests: list[Request] = []
    for slot in range(MAX_REQUESTS):
        best = {name: int(np.argmax(values[slot])) for name, values in logits.items()}
        if best["axis"] == NO_AXIS:
            continue
        axis = AXES[best["axis"]]
        has_level, has_role = axis not in ("repair", "segment"), axis in ("emphasis", "repair")
        role = ROLES[best["role"]] if has_role and best["role"] != NO_ROLE else None
        classes = tuple(np.array(CLASSES)[logits["classes"][slot] > 0].tolist())
        try:
            request = Request(
                axis,
                LEVELS[best["level"]] if has_level else 0,
                () if axis == "repair" else classes,
                role,
                DEFECTS[best["defect"]] if axis == "repair" else None,
            )
        except UserError:  # emphasis of no source
            continue
        if subject(request) not in map(subject, requests):
            requests.append(request)
    limited = {_for_the_whole_image(request) for request in requests if request.classes}
    return tuple(
        request
        for request in requests
        if request.classes or request.axis == "segment" or request not in limited
    )


def _for_the_whole_image(request: Request) -> Request:
    return dataclasses.replace(request, classes=())
