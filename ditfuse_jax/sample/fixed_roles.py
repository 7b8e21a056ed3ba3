"""Roles of the sources of a sequence, decided once for all frames.

A single frame may look otherwise than the others: a dark one has no colours, and the lead in
sharpness between two focuses may change its sign.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.source_roles import PLACES, describe_found, find_source


def fix_roles(
    requests: Sequence[Request], frames: Iterable[Sequence[np.ndarray]]
) -> tuple[tuple[Request, ...], str]:
    """Returns requests that name sources by their places, and which image is taken as which.

    Most of the frames that show it clearly decide; without any, the first frame's guess.

    Args:
      requests: those that image operations do.
      frames: the sources of some frames, uint8 or uint16 (H, W, 3).

    Raises:
      UserError: there is no source of a role.
    """
    roles = [role for role in dict.fromkeys(one.role for one in requests) if role]
    named = [role for role in roles if role not in PLACES]
    votes: dict[str, list[tuple[int, str]]] = {role: [] for role in named}
    if named:
        for sources in frames:
            for role in named:
                votes[role].append(find_source(role, sources))
    found = {role: _decide(given) for role, given in votes.items() if given}
    fixed = tuple(
        dataclasses.replace(one, role=PLACES[found[one.role][0]])
        if one.role in found and found[one.role][0] < len(PLACES)
        else one
        for one in requests
    )
    return fixed, describe_found(found)


def _decide(votes: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """Returns the index that most frames show without a warning, else the first guess."""
    sure = [index for index, warning in votes if not warning]
    return (max(sure, key=sure.count), "") if sure else votes[0]
