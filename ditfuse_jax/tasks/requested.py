"""Fusion with requests: another task's examples with a target that is changed as requested."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ditfuse_jax.checks import check_fraction
from ditfuse_jax.degrade.adjust import adjust, emphasise
from ditfuse_jax.degrade.defects import apply_defect
from ditfuse_jax.degrade.overlay import overlay_all, overlay_classes
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import is_grey
from ditfuse_jax.prompts import task_prompt
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import (
    AXES,
    CLASSES,
    DEFECTS,
    LEVELS,
    TONE_AXES,
    Request,
    conflicting,
)
from ditfuse_jax.tasks.example import Example, Task

WORDINGS = ("tags", "sentences")

_AXES = {
    **dict.fromkeys(TONE_AXES, 1.0),
    **{"emphasis": 1.2, "repair": 1.0, "segment": 2.0},
}
_COUNTS = (0.1, 0.55, 0.25, 0.1)  # probabilities of 0, 1, 2 and 3 requests
_MIN_AREA = 0.005  # fraction of the image below which a class is not asked for
_ABSENT = 0.06  # probability of asking for a class that may be absent
_TRIES = 20


@dataclasses.dataclass(frozen=True)
class Requested:
    """The examples of `base` with up to three requests.

    Repair: a source gets the defect, the target stays.  Emphasis and the tone axes change the
    target, everywhere or where the labels of `base` show the classes of the request.  Segment marks
    classes at the end.

    Attributes:
      base: makes the sources, the plain target, and the roles or labels that requests need.
      axes: relative frequency of the axes.
      in_region: probability that a request is limited to classes, where labels are known.
      wording: how a prompt asks: `tags` of the requests, or `sentences` of the grammar.
    """

    base: Task
    axes: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(_AXES))
    in_region: float = 0.5
    wording: str = "tags"

    def __post_init__(self) -> None:
        check_fraction("in_region", self.in_region)
        if getattr(self.base, "misalign", 0):
            raise UserError("misalign: emphasis needs registered sources: use the task without it")
        if self.wording not in WORDINGS:
            raise UserError(f"wording {self.wording!r} is unknown: choose tags or sentences")
        for axis in self.axes:
            if axis not in AXES:
                raise UserError(f"axis {axis!r} is unknown: choose from {', '.join(AXES)}")

    @property
    def num_images(self) -> int:
        return self.base.num_images

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        """See `Task`."""
        plain = self.base(images, rng, crop)
        requests = self._draw_requests(plain, rng)
        if not requests:
            return plain
        sources, target = list(plain.sources), plain.target
        for request in requests:
            if request.axis == "repair":
                _damage(sources, request, plain.roles, rng)
        for request in requests:
            target = _changed(target, request, plain)
        if self.wording == "tags":
            prompt = requests_prompt(requests, len(sources))
        else:
            # Imported here: a task's prompt is needed by commands that draw no sentences.
            from ditfuse_jax.prompts.grammar import InstructionGrammar

            sentence = InstructionGrammar(rng).express(requests)
            prompt = task_prompt("FUSION", None, sentence, len(sources))
        return dataclasses.replace(plain, sources=tuple(sources), prompt=prompt, target=target)

    def _draw_requests(self, plain: Example, rng: np.random.Generator) -> list[Request]:
        count = int(rng.choice(len(_COUNTS), p=_COUNTS))
        requests: list[Request] = []
        for _ in range(_TRIES):
            if len(requests) == count:
                break
            new = self._draw_request(plain, rng)
            if not any(conflicting(one, new) for one in requests):
                requests.append(new)
        # Overlays cover what other requests change.
        return sorted(requests, key=lambda one: one.axis == "segment")

    def _draw_request(self, plain: Example, rng: np.random.Generator) -> Request:
        possible = {
            axis: share
            for axis, share in self.axes.items()
            if axis != "segment" or plain.labels is not None
        }
        shares = np.array(list(possible.values()))
        axis = list(possible)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        role = _draw_role(plain, rng)
        if axis == "segment":
            return Request(axis, classes=_draw_classes(plain.labels, rng, marked=True))
        if axis == "repair":
            return _draw_repair(plain, role, rng)
        level = LEVELS[int(rng.integers(len(LEVELS)))]
        limited = plain.labels is not None and rng.random() < self.in_region
        classes = _draw_classes(plain.labels, rng) if limited else ()
        return Request(axis, level, classes, role if axis == "emphasis" else None)


def source_index(role: str, roles: Sequence[str]) -> int:
    """Returns the index of the source with a role, which may be its place."""
    return roles.index(role) if role in roles else ("first", "second").index(role)


def _draw_role(plain: Example, rng: np.random.Generator) -> str:
    index = int(rng.integers(2))
    known = len(plain.roles) > index and rng.random() < 0.7
    return plain.roles[index] if known else ("first", "second")[index]


def _draw_repair(plain: Example, role: str, rng: np.random.Generator) -> Request:
    """Draws a defect that the source can have: grey sources have no colour cast."""
    source = plain.sources[source_index(role, plain.roles)]
    defects = [defect for defect in DEFECTS if defect != "cast" or not is_grey(source)]
    return Request("repair", role=role, defect=defects[int(rng.integers(len(defects)))])


def _draw_classes(
    labels: np.ndarray | None, rng: np.random.Generator, *, marked: bool = False
) -> tuple[str, ...]:
    """Draws classes of the image; with `marked` also none, for all."""
    assert labels is not None
    if marked and rng.random() < 0.2:
        return ()
    counts = np.bincount(labels.ravel(), minlength=256)[: len(CLASSES)]
    present = np.flatnonzero(counts >= _MIN_AREA * labels.size)
    if not len(present) or rng.random() < _ABSENT:
        return (CLASSES[int(rng.integers(len(CLASSES)))],)
    # Large classes are drawn more often, but much less than in proportion to their areas.
    shares = counts[present] ** 0.25
    several = 1 + (rng.random() < 0.2)
    drawn = rng.choice(present, min(several, len(present)), replace=False, p=shares / shares.sum())
    return tuple(CLASSES[k] for k in sorted(drawn))


def _damage(
    sources: list[np.ndarray], request: Request, roles: Sequence[str], rng: np.random.Generator
) -> None:
    assert request.defect is not None
    assert request.role is not None
    index = source_index(request.role, roles)
    sources[index] = apply_defect(sources[index], request.defect, rng.random(), rng)


def _changed(target: np.ndarray, request: Request, plain: Example) -> np.ndarray:
    if request.axis == "repair":
        return target
    numbers = [CLASSES.index(name) for name in request.classes]
    if request.axis == "segment":
        assert plain.labels is not None
        if not numbers:
            return overlay_all(target, plain.labels)
        return overlay_classes(target, plain.labels, numbers)
    mask = None
    if numbers:
        assert plain.labels is not None
        mask = np.isin(plain.labels, numbers)
    if request.axis == "emphasis":
        assert request.role is not None
        index = source_index(request.role, plain.roles)
        return emphasise(target, plain.sources, index, request.level, mask)
    return adjust(target, request.axis, request.level, mask)
