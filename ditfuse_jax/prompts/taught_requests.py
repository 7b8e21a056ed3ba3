"""Which requests a model was taught, and who does what of a parsed instruction."""

import dataclasses
from collections.abc import Sequence

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import AXES, TONE_AXES, Request

# Besides the axes: requests limited to classes, and more than one request at once.
REGIONS, COMPOUNDS = "regions", "compounds"
_STRONGEST = 2
# Axes that image operations can change: see `sample/applied_requests.py`.
APPLICABLE = (*TONE_AXES, "emphasis")

LeftOut = tuple[tuple[Request, str], ...]


@dataclasses.dataclass(frozen=True)
class DividedRequests:
    """Who does what of an instruction.

    Attributes:
      asked: what the model is asked for, by tags.
      applied: what image operations do.
      left_out: what nobody can do, with the reasons.
    """

    asked: tuple[Request, ...] = ()
    applied: tuple[Request, ...] = ()
    left_out: LeftOut = ()


@dataclasses.dataclass(frozen=True)
class TaughtRequests:
    """What a model was taught by tags.

    Attributes:
      levels: axis -> the strongest level.
      regions: whether a request may be limited to classes.
      compounds: whether several requests may be made at once.
    """

    levels: dict[str, int]
    regions: bool = False
    compounds: bool = False

    @classmethod
    def parse(cls, text: str) -> "TaughtRequests":
        """Parses `brightness,contrast:1,segment,regions,compounds`.

        A number after an axis is the strongest level, by default 2.

        Raises:
          UserError: an entry is unknown.
        """
        levels, others = {}, set()
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, _, level = entry.partition(":")
            if entry in (REGIONS, COMPOUNDS):
                others.add(entry)
            elif name in AXES and level in ("", "1", "2"):
                levels[name] = int(level or _STRONGEST)
            else:
                known = ", ".join((*AXES, REGIONS, COMPOUNDS))
                raise UserError(f"requests has the unknown entry {entry!r}: choose from {known}")
        return cls(levels, REGIONS in others, COMPOUNDS in others)

    def with_applied(self, apply: bool) -> "TaughtRequests":
        """Returns what can be asked for if image operations do what was not taught."""
        if not apply:
            return self
        strongest = dict.fromkeys(APPLICABLE, _STRONGEST)
        regions = self.regions or "segment" in self.levels
        return TaughtRequests(self.levels | strongest, regions, compounds=True)

    def divide(self, requests: Sequence[Request], *, apply: bool) -> DividedRequests:
        """Divides requests between the model and image operations.

        A level that is stronger than taught and cannot be applied becomes the strongest one.

        Args:
          requests: of one instruction.
          apply: whether image operations may do what the model was not taught.
        """
        asked: list[Request] = []
        applied: list[Request] = []
        left_out: list[tuple[Request, str]] = []
        # An overlay comes last: it covers what other requests change.
        for request in sorted(requests, key=lambda one: one.axis == "segment"):
            reason = self._reason(request, asked)
            applicable = apply and self._applicable(request)
            most = self.levels.get(request.axis, 0)
            if not reason and (abs(request.level) <= most or not applicable):
                level = max(-most, min(most, request.level))
                asked.append(dataclasses.replace(request, level=level))
            elif applicable:
                applied.append(request)
            else:
                if apply and request.axis in APPLICABLE:
                    reason = "it does not mark classes: a mask (--region) says where"
                left_out.append((request, reason))
        if applied and asked and asked[-1].axis == "segment" and self._applicable(asked[-1]):
            # What is applied would change an overlay of the model.
            applied.append(asked.pop())
        return DividedRequests(tuple(asked), tuple(applied), tuple(left_out))

    def _reason(self, request: Request, asked: Sequence[Request]) -> str:
        """Returns why the model cannot do a request beside those that it is asked; "" if it can."""
        if request.axis not in self.levels:
            return f"it was not taught {request.axis}"
        if request.classes and request.axis != "segment" and not self.regions:
            return "it cannot limit a request to a class"
        if asked and not self.compounds:
            return "it takes one request at a time"
        return ""

    def _applicable(self, request: Request) -> bool:
        marks = "segment" in self.levels
        if request.axis == "segment":
            return marks
        if request.axis == "repair":
            return not request.classes
        return request.axis in APPLICABLE and (marks or not request.classes)
