"""What an instruction can ask for: up to three requests about a fusion.

A request is an axis, a level and the classes that it is limited to.  No request means the plain
fusion.  The axes are described in docs/method.md, Requests.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from ditfuse_jax.errors import UserError

MAX_REQUESTS = 3

LEVELS = (-2, -1, 1, 2)

# Axes with a level; the other two are `repair` and `segment`.
TONE_AXES = ("brightness", "contrast", "saturation", "detail")
AXES = (*TONE_AXES, "emphasis", "repair", "segment")

# What a source is, or its place.
ROLES = ("infrared", "visible", "near", "far", "under", "over", "first", "second")

# Defects of a source that a fusion can undo.
DEFECTS = ("dark", "noisy", "hazy", "blurred", "cast", "stripes")

# Classes that a request can be limited to: the usual eleven of street scenes.
CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "cyclist"),
)

_OPTION = re.compile(r"(?:(?P<region>[a-z+]+):)?(?P<name>[a-z]+)=(?P<level>[+-]?[0-9]+)")


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
      axis: one of `AXES`.
      level: one of `LEVELS`; 0 for `repair` and `segment`, which have no degree.
      classes: of `CLASSES`, in that order: those that the request is limited to, none for the whole
        image; in `segment` those to mark, none for all.
      role: one of `ROLES`: the source to emphasise, or to repair; None to repair every source.
      defect: one of `DEFECTS`, for `repair` only.

    Raises:
      UserError: a value is unknown or does not fit the axis.
    """

    axis: str
    level: int = 0
    classes: tuple[str, ...] = ()
    role: str | None = None
    defect: str | None = None

    def __post_init__(self) -> None:
        _check("axis", self.axis, AXES)
        if (self.axis in TONE_AXES or self.axis == "emphasis") != (self.level != 0):
            raise UserError(f"{self.axis} cannot have the level {self.level}")
        if self.level:
            _check(f"level of {self.axis}", self.level, LEVELS)
        for name in self.classes:
            _check("class", name, CLASSES)
        ordered = tuple(name for name in CLASSES if name in self.classes)
        object.__setattr__(self, "classes", ordered)
        if self.role is not None:
            _check("source", self.role, ROLES)
        if (self.role is not None) > (self.axis in ("emphasis", "repair")):
            raise UserError(f"{self.axis} cannot name a source, such as {self.role}")
        if self.axis == "emphasis" and self.role is None:
            raise UserError(f"emphasis must name a source: {', '.join(ROLES)}")
        if (self.defect is not None) != (self.axis == "repair"):
            raise UserError(f"{self.axis} cannot have the defect {self.defect}")
        if self.defect is not None:
            _check("defect", self.defect, DEFECTS)

    def __str__(self) -> str:
        """Returns a short text such as `road: brightness -1`."""
        if self.axis == "segment":
            return f"segment {', '.join(self.classes) or 'all'}"
        if self.axis == "repair":
            text = f"repair {self.defect} {self.role or 'sources'}"
        else:
            name = f"emphasis {self.role}" if self.axis == "emphasis" else self.axis
            text = f"{name} {self.level:+d}"
        return f"{', '.join(self.classes)}: {text}" if self.classes else text


# What one instruction asks for, in the order of its text.
Requests = tuple[Request, ...]


def describe(requests: Iterable[Request]) -> str:
    """Returns requests as one line, `brightness +1; road: contrast -2`, or `nothing`."""
    return "; ".join(map(str, requests)) or "nothing"


def parse_requests(text: str) -> tuple[Request, ...]:
    """Parses what `describe` returns.

    Raises:
      UserError: the text is no such description.
    """
    if text.strip() == "nothing":
        return ()
    return check_requests([_parse_request(part.strip()) for part in text.split(";")])


def _parse_request(text: str) -> Request:
    regions, colon, rest = text.rpartition(": ")
    classes = tuple(regions.split(", ")) if colon else ()
    axis, _, words = rest.partition(" ")
    if axis == "segment":
        return Request(axis, classes=() if words == "all" else tuple(words.split(", ")))
    first, _, second = words.partition(" ")
    if axis == "repair":
        return Request(axis, defect=first, role=None if second == "sources" else second)
    role, level = (first, second) if axis == "emphasis" else (None, first)
    if not re.fullmatch(r"[+-][0-9]", level):
        raise UserError(f"request {text!r} must look like `road: brightness -1`")
    return Request(axis, int(level), classes, role)


def parse_adjustment(text: str) -> Request:
    """Parses `brightness=+1`, `road:contrast=-2`, `road+sky:detail=+1` or `infrared=+2`.

    A source instead of an axis asks to emphasise it.

    Raises:
      UserError: the text has another form, or a name or level is unknown.
    """
    found = _OPTION.fullmatch(text.strip().lower())
    if not found:
        raise UserError(
            f"adjustment {text!r} must have the form AXIS=LEVEL or CLASS:AXIS=LEVEL, such as "
            "brightness=+1 or road:contrast=-2"
        )
    classes = tuple(found["region"].split("+")) if found["region"] else ()
    name, level = found["name"], int(found["level"])
    if name in ROLES:
        return Request("emphasis", level, classes, role=name)
    if name not in TONE_AXES:
        known = ", ".join((*TONE_AXES, *ROLES))
        raise UserError(f"adjustment {text!r} has the unknown name {name!r}: choose from {known}")
    return Request(name, level, classes)


def check_requests(requests: Sequence[Request]) -> tuple[Request, ...]:
    """Returns the requests of one instruction.

    Raises:
      UserError: there are more than `MAX_REQUESTS`, or two about the same axis, source and classes.
    """
    if len(requests) > MAX_REQUESTS:
        raise UserError(f"{len(requests)} requests at once: give at most {MAX_REQUESTS}")
    if len(set(map(subject, requests))) < len(requests):
        raise UserError(f"two requests about the same: {describe(requests)}; give one")
    return tuple(requests)


def conflicting(one: Request, other: Request) -> bool:
    """Returns whether a sentence with both requests would contradict itself or say one twice."""
    if one.axis != other.axis:
        return False
    if one.axis == "repair":
        return one.role == other.role
    overlapping = not one.classes or not other.classes or set(one.classes) & set(other.classes)
    return one.axis == "segment" or bool(overlapping)


def subject(request: Request) -> tuple[Hashable, ...]:
    """Returns what a request is about: all but its level."""
    return request.axis, request.role, request.defect, request.classes


def _check(what: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise UserError(f"unknown {what} {value!r}: choose from {', '.join(map(str, known))}")
