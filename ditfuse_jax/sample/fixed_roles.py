"""Roles of the sources of a sequence, decided once for all frames.

A single frame may look otherwise than the others: a dark one has no colours, and the lead in
sharpness between two focuses may change its sign.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.source_roles import PLACES, FoundRoles, find_source


def named_roles(requests: Sequence[Request]) -> list[str]:
    """Returns the roles that requests name and that the images must tell."""
    roles = [one.role for one in requests if one.role and one.role not in PLACES]
    return list(dict.fromkeys(roles))


def decide_roles(
    requests: Sequence[Request], frames: Iterable[Sequence[np.ndarray]]
) -> dict[str, tuple[int, str]]:
    """Returns which source each role is, see `FoundRoles`.

    Most of the frames that show it clearly decide; without any, the first frame's guess.

    Args:
      requests: those that image operations do.
      frames: the sources of some frames, uint8 or uint16 (H, W, 3).

    Raises:
      UserError: there is no source of a role.
    """
    votes: dict[str, list[tuple[int, str]]] = {role: [] for role in named_roles(requests)}
    if votes:
        for sources in frames:
            for role, given in votes.items():
                given.append(find_source(role, sources))
    return {role: _decide(given) for role, given in votes.items() if given}


def with_frame(
    known: FoundRoles, requests: Sequence[Request], sources: Sequence[np.ndarray]
) -> FoundRoles:
    """Returns the roles that are known after a further frame: guesses end where one is sure.

    Args:
      known: after the frames before.
      requests: those that image operations do.
      sources: of the frame, uint8 or uint16 (H, W, 3).

    Raises:
      UserError: there is no source of a role.
    """
    roles = dict(known)
    for role in named_roles(requests):
        if role not in roles or roles[role][1]:
            found = find_source(role, sources)
            roles[role] = found if not found[1] else roles.get(role, found)
    return roles


def _decide(votes: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """Returns the index that most frames show without a warning, else the first guess."""
    sure = [index for index, warning in votes if not warning]
    return (max(sure, key=sure.count), "") if sure else votes[0]
