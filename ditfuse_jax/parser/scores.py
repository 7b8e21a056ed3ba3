"""How often a parser is right."""

from collections.abc import Sequence

import numpy as np

from ditfuse_jax.prompts.requests import Request, Requests


def parsing_scores(expected: Sequence[Requests], found: Sequence[Requests]) -> dict[str, float]:
    """Compares the requests of sentences with those that were found.

    Returns:
      Shares in 0..1; an axis counts only if a sentence asks for it:
      `exact`: sentences whose requests are all found with axis, level, classes and source;
      `direction`: sentences with all axes, signs and sources, whatever the degree and classes;
      `nothing`: sentences that ask for nothing and in which nothing was found;
      `AXIS`: requests about an axis that were found with the right sign and source;
      `AXIS degree`: those of them that were also found with the right level;
      `classes`: requests limited to classes, and to mark them, that were found with these classes.
    """
    pairs = list(zip(expected, found, strict=True))
    result = {
        "exact": _share([wanted == got for wanted, got in pairs]),
        "direction": _share([_signs(wanted) == _signs(got) for wanted, got in pairs]),
        "nothing": _share([not got for wanted, got in pairs if not wanted]),
    }
    requests = [(one, got) for wanted, got in pairs for one in wanted]
    for axis in dict.fromkeys(one.axis for one, _ in requests):
        of_axis = [(one, got) for one, got in requests if one.axis == axis]
        right = [(one, got) for one, got in of_axis if _sign(one) in _signs(got)]
        result[axis] = len(right) / len(of_axis)
        if of_axis[0][0].level:
            levels = [any(_level(one) == _level(other) for other in got) for one, got in right]
            result[f"{axis} degree"] = _share(levels)
    limited = [(one, got) for one, got in requests if one.classes]
    result["classes"] = _share(
        [
            any(one.classes == other.classes and one.axis == other.axis for other in got)
            for one, got in limited
        ]
    )
    return {name: value for name, value in result.items() if not np.isnan(value)}


def _share(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _sign(request: Request) -> tuple[object, ...]:
    return request.axis, int(np.sign(request.level)), request.role, request.defect


def _signs(requests: Requests) -> list[tuple[object, ...]]:
    return [_sign(request) for request in requests]


def _level(request: Request) -> tuple[object, ...]:
    return request.axis, request.level, request.role
