"""Which requests a model was taught, and what of a parsed instruction it can do."""

import dataclasses
from collections.abc import Sequence

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import AXES, Request

# Besides the axes: requests limited to classes, and more than one request at once.
REGIONS, COMPOUNDS = "regions", "compounds"
_STRONGEST = 2


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

    def split(
        self, requests: Sequence[Request]
    ) -> tuple[tuple[Request, ...], tuple[tuple[Request, str], ...]]:
        """Returns the requests that the model can do, and the others with the reason.

        A level that is stronger than taught becomes the strongest one.
        """
        possible: list[Request] = []
        others: list[tuple[Request, str]] = []
        for request in requests:
            if request.axis not in self.levels:
                others.append((request, f"it was not taught {request.axis}"))
            elif request.classes and request.axis != "segment" and not self.regions:
                others.append((request, "it cannot limit a request to a class"))
            elif possible and not self.compounds:
                others.append((request, "it takes one request at a time"))
            else:
                most = self.levels[request.axis]
                level = max(-most, min(most, request.level))
                possible.append(dataclasses.replace(request, level=level))
        return tuple(possible), tuple(others)
