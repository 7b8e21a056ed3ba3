"""Requests that are applied to a fused image, because its model was not taught them.

The operations are those that make the targets of training (`degrade/adjust.py`), so the result is
what a model would learn to give.  A request that is limited to classes applies where the model
marks them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ditfuse_jax.degrade.adjust import AXIS_OPERATIONS, LUMA_WEIGHTS, feather, towards_source
from ditfuse_jax.degrade.overlay import OPACITY
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.source_roles import find_source

_MARKED = 32.0  # grey levels of difference from which a pixel counts as marked fully


def apply_requests(
    image: np.ndarray,
    sources: Sequence[np.ndarray],
    requests: Sequence[Request],
    regions: Mapping[tuple[str, ...], np.ndarray],
) -> np.ndarray:
    """Applies requests about brightness, contrast, saturation, detail and emphasis, in order.

    Args:
      image: the fused image, uint8 or uint16 (H, W, 3).
      sources: of its size, of 8 or 16 bits each.
      requests: what to apply; `repair` and `segment` cannot be.
      regions: classes of a request -> bool (H, W), where they are; all False if nowhere.

    Returns:
      (H, W, 3), of the image's type.

    Raises:
      UserError: the images have no source of a request's role.
    """
    largest = np.iinfo(image.dtype).max
    pixels = _float(image)
    for request in requests:
        weights = None
        if request.classes:
            if not regions[request.classes].any():
                continue
            weights = feather(regions[request.classes])
        if request.axis == "emphasis":
            assert request.role is not None
            index, _ = find_source(request.role, sources)
            lumas = [_float(source) @ LUMA_WEIGHTS for source in sources]
            changed = towards_source(pixels, lumas, index, request.level)
        else:
            changed = AXIS_OPERATIONS.find(request.axis)(pixels, request.level, weights)
        if weights is not None:
            changed = pixels + weights[..., None] * (changed - pixels)
        pixels = np.clip(changed, 0, 255)
    return np.rint(pixels * np.float32(largest / 255)).astype(image.dtype)


def role_warnings(requests: Sequence[Request], sources: Sequence[np.ndarray]) -> list[str]:
    """Returns a line for each role of a request that the sources do not show; see `find_source`."""
    roles = dict.fromkeys(one.role for one in requests if one.axis == "emphasis" and one.role)
    warnings = (find_source(role, sources)[1] for role in roles)
    return [warning for warning in warnings if warning]


def overlaid(image: np.ndarray, marked: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Moves the overlay of a marked fusion to an image that other requests have changed.

    The overlay is `marked = (1 - opacity) plain + opacity colour`, so the moved one is
    `marked + (1 - opacity) (image - plain)`.  Where the model changed little, it counts in part.

    Args:
      image: the fused image with other requests, uint8 or uint16 (H, W, 3).
      marked: the fusion with the overlay, of the same type.
      plain: the fusion without requests, of the same type.
    """
    scale = np.float32(np.iinfo(image.dtype).max / 255)
    change = marked.astype(np.float32) - plain
    covered = np.clip(np.abs(change).max(axis=-1, keepdims=True) / (_MARKED * scale), 0, 1)
    moved = image + change - OPACITY * covered * (image.astype(np.float32) - plain)
    return np.clip(np.rint(moved), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def _float(image: np.ndarray) -> np.ndarray:
    """Returns an image of 8 or 16 bits as float32 in 0..255."""
    return image.astype(np.float32) * np.float32(255 / np.iinfo(image.dtype).max)
