"""Requests that are done by image operations, because the model was not taught them.

A repair restores the source before the fusion (`degrade/restore.py`).  Other requests change the
fused image as far as the operations go that make the targets of training (`degrade/adjust.py`), and
other axes less (`degrade/selective.py`); a request that is limited to classes applies where the
model marks them.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ditfuse_jax.degrade.adjust import AXIS_OPERATIONS, LUMA_WEIGHTS, feather, towards_source
from ditfuse_jax.degrade.deblur import SMALLEST_SIDE
from ditfuse_jax.degrade.restore import RESTORATIONS
from ditfuse_jax.degrade.selective import apply_axis
from ditfuse_jax.images import is_grey
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.source_roles import FoundRoles, find_known


def apply_requests(
    image: np.ndarray,
    sources: Sequence[np.ndarray],
    requests: Sequence[Request],
    regions: Mapping[tuple[str, ...], np.ndarray],
    roles: FoundRoles = MappingProxyType({}),
) -> np.ndarray:
    """Applies requests about brightness, contrast, saturation, detail and emphasis, in order.

    Args:
      image: the fused image, uint8 or uint16 (H, W, 3).
      sources: of its size, of 8 or 16 bits each.
      requests: what to apply; `repair` and `segment` are passed over.
      regions: classes of a request -> bool (H, W), where they are; all False if nowhere.
      roles: which source is which, where that is known already.

    Returns:
      (H, W, 3), of the image's type.

    Raises:
      UserError: the images have no source of a request's role.
    """
    pixels = _float(image)
    for request in requests:
        if request.axis not in (*AXIS_OPERATIONS, "emphasis"):
            continue
        weights = None
        if request.classes:
            if not regions[request.classes].any():
                continue
            weights = feather(regions[request.classes])
        if request.axis == "emphasis":
            assert request.role is not None
            index, _ = find_known(request.role, sources, roles)
            lumas = [_float(source) @ LUMA_WEIGHTS for source in sources]
            changed = towards_source(pixels, lumas, index, request.level)
        else:
            changed = apply_axis(pixels, request.axis, request.level, weights)
        if weights is not None:
            changed = pixels + weights[..., None] * (changed - pixels)
        pixels = np.clip(changed, 0, 255)
    return _like(pixels, image)


def restore_sources(
    sources: Sequence[np.ndarray],
    requests: Sequence[Request],
    roles: FoundRoles = MappingProxyType({}),
) -> Sequence[np.ndarray]:
    """Returns the sources with the defects that requests name removed.

    Args:
      sources: uint8 or uint16 (H, W, 3).
      requests: those about other axes than `repair` are passed over.
      roles: which source is which, where that is known already.

    Returns:
      `sources` itself if there is nothing to repair.

    Raises:
      UserError: there is no source of a request's role.
    """
    if not any(request.axis == "repair" for request in requests):
        return sources
    restored = list(sources)
    for request in requests:
        if request.axis != "repair":
            continue
        assert request.defect is not None
        chosen = range(len(sources))
        if request.role is not None:
            chosen = [find_known(request.role, sources, roles)[0]]
        for index in chosen:
            if request.defect == "cast" and is_grey(sources[index]):
                continue
            pixels = RESTORATIONS.find(request.defect)(_float(restored[index]))
            restored[index] = _like(pixels, restored[index])
    return restored


def request_warnings(
    requests: Sequence[Request],
    sources: Sequence[np.ndarray],
    known: FoundRoles = MappingProxyType({}),
) -> list[str]:
    """Returns a line for each request that changes nothing, or whose source is a guess.

    Args:
      requests: those that image operations do.
      sources: uint8 or uint16 (H, W, 3).
      known: which source is which, where that is known already.
    """
    roles = dict.fromkeys(one.role for one in requests if one.role)
    warnings = [find_known(role, sources, known)[1] for role in roles]
    grey = [one for one in requests if one.axis == "saturation" or one.defect == "cast"]
    if grey and all(map(is_grey, sources)):
        warnings += [f"{one} changes nothing: the images are grey" for one in grey]
    side = min(sources[0].shape[:2])
    if side < SMALLEST_SIDE:
        blurred = [one for one in requests if one.defect == "blurred"]
        warnings += [f"{one} changes nothing: a side has only {side} pixels" for one in blurred]
    return [warning for warning in warnings if warning]


def _float(image: np.ndarray) -> np.ndarray:
    """Returns an image of 8 or 16 bits as float32 in 0..255."""
    return image.astype(np.float32) * np.float32(255 / np.iinfo(image.dtype).max)


def _like(pixels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns float32 in 0..255 in the type of an image."""
    scale = np.float32(np.iinfo(image.dtype).max / 255)
    return np.rint(np.clip(pixels, 0, 255) * scale).astype(image.dtype)
