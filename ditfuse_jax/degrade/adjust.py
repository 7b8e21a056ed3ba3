"""Operations on a target image, one for each axis that an instruction can ask for.

An operation takes an image and a level from -2 to +2; level 0 returns the image.  Brightness and
contrast change the luma and scale the colour with it, so that the saturation stays; saturation
changes the colour and keeps the luma; detail changes fine bands of the luma.  These make targets of
training; requests about a fused image are obeyed by `selective.py`.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ditfuse_jax.images.guided_filter import guided_filter
from ditfuse_jax.registry import Registry

# Level -> exponent of the tone curve `y = x^g` on [0, 1].
_GAMMA = {2: 0.45, 1: 0.7, -1: 1.45, -2: 2.2}
# Level -> slope of the luma about its mean.
_SLOPE = {2: 2.1, 1: 1.5, -1: 0.6, -2: 0.35}
# Level -> factor of the chroma.
_CHROMA = {2: 2.2, 1: 1.5, -1: 0.5, -2: 0.0}
# Level -> gains of the two finest bands, whose borders are at these sigmas in pixels.
_BAND_GAINS = {2: (3.0, 2.0), 1: (1.9, 1.4)}
_BAND_SIGMAS = (1.0, 2.5)
# Level -> radius in pixels and contrast in grey levels of the structures that smoothing removes.
_SMOOTHING = {-1: (2, 10.0), -2: (4, 22.0)}
# Level -> share of the way from the fused luma to that of the emphasised source.
_EMPHASIS = {2: 0.75, 1: 0.35, -1: 0.35, -2: 0.75}

# Weights of red, green and blue in the luma (BT.601).
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
_DARKEST = 5.0  # level below which the colour is not scaled by the ratio of the lumas
_FEATHER = 2.0  # sigma of a region's border, in pixels

Operation = Callable[[np.ndarray, int, np.ndarray | None], np.ndarray]


def brightness(image: np.ndarray, level: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Brightens or darkens an RGB image by a tone curve that keeps black and white.

    Args:
      image: float32 (H, W, 3) in 0..255.
      level: -2, -1, 1 or 2.
      mask: not used.
    """
    del mask
    luma = image @ LUMA_WEIGHTS
    return with_luma(image, luma, 255 * np.power(np.clip(luma / 255, 0, 1), _GAMMA[level]))


def contrast(image: np.ndarray, level: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Stretches or compresses the luma about its mean; see `brightness`.

    Args:
      image: float32 (H, W, 3) in 0..255.
      level: -2, -1, 1 or 2.
      mask: float32 (H, W), the weights of the mean; the whole image by default.
    """
    luma = image @ LUMA_WEIGHTS
    has_weight = mask is not None and mask.sum() > 0
    middle = float(np.average(luma, weights=mask)) if has_weight else float(luma.mean())
    return with_luma(image, luma, middle + _SLOPE[level] * (luma - middle))


def saturation(image: np.ndarray, level: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Scales the chroma and keeps the luma; level -2 returns greys.

    The factor of a pixel is limited to what its luma allows in RGB.

    Args:
      image: float32 (H, W, 3) in 0..255.
      level: -2, -1, 1 or 2.
      mask: not used.
    """
    del mask
    return scale_chroma(image, _CHROMA[level], chroma_room(image))


def detail(image: np.ndarray, level: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Raises the fine bands of the luma, or smooths it and keeps its edges.

    Smoothing is a guided filter (He et al. 2013) of the luma by itself.

    Args:
      image: float32 (H, W, 3) in 0..255.
      level: -2, -1, 1 or 2.
      mask: not used.
    """
    del mask
    luma = image @ LUMA_WEIGHTS
    if level > 0:
        fine, coarse = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in _BAND_SIGMAS)
        gains = _BAND_GAINS[level]
        changed = luma + (gains[0] - 1) * (luma - fine) + (gains[1] - 1) * (fine - coarse)
    else:
        radius, scale = _SMOOTHING[level]
        changed = guided_filter(luma, luma, radius, scale * scale)
    # Only the luma changes: scaling the colour with single pixels would be visible as noise.
    return image + (changed - luma)[..., None]


AXIS_OPERATIONS: Registry[Operation] = Registry(
    "adjustment",
    {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "detail": detail,
    },
)


def towards_source(
    image: np.ndarray, sources: Sequence[np.ndarray], source: int, level: int
) -> np.ndarray:
    """Moves the luma of a fusion towards that of one of its sources, or away from it.

    Args:
      image: float32 (H, W, 3) in 0..255.
      sources: the lumas of the sources, float32 (H, W) in 0..255.
      source: index of the source.
      level: -2, -1, 1 or 2; negative levels move towards the mean of the other sources.

    Returns:
      float32 (H, W, 3), with the colour of the fusion.
    """
    chosen = [source] if level > 0 else [k for k in range(len(sources)) if k != source]
    goal = np.mean([sources[k] for k in chosen], axis=0)
    return image + _EMPHASIS[level] * (goal - image @ LUMA_WEIGHTS)[..., None]


def adjust(image: np.ndarray, axis: str, level: int, mask: np.ndarray | None = None) -> np.ndarray:
    """Applies an operation of `AXIS_OPERATIONS`, to a region if one is given.

    Args:
      image: uint8 (H, W, 3).
      axis: the name of the operation.
      level: -2, -1, 0, 1 or 2.
      mask: bool (H, W), True in the region; its border is feathered.

    Returns:
      uint8 (H, W, 3).

    Raises:
      UserError: there is no such operation.
    """
    operation = AXIS_OPERATIONS.find(axis)
    if level == 0:
        return image
    weights = None if mask is None else feather(mask)
    changed = operation(image.astype(np.float32), level, weights)
    return blend(image, changed, weights)


def emphasise(
    fused: np.ndarray,
    sources: Sequence[np.ndarray],
    source: int,
    level: int,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Applies `towards_source` to 8-bit images, to a region if one is given.

    Args:
      fused: uint8 (H, W, 3).
      sources: uint8 (H, W, 3) each.
      source: index of the source.
      level: -2 to 2.
      mask: bool (H, W), see `adjust`.

    Returns:
      uint8 (H, W, 3), with the colour of the fusion.
    """
    if level == 0:
        return fused
    lumas = [image.astype(np.float32) @ LUMA_WEIGHTS for image in sources]
    moved = towards_source(fused.astype(np.float32), lumas, source, level)
    return blend(fused, moved, None if mask is None else feather(mask))


def feather(mask: np.ndarray) -> np.ndarray:
    """Returns the weights of a region, float32 (H, W), with a soft border."""
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), _FEATHER)


def blend(image: np.ndarray, changed: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Returns the rounded image with `changed` blended in, `uint8 (H, W, 3)`."""
    if weights is not None:
        changed = image + weights[..., None] * (changed - image)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def with_luma(image: np.ndarray, luma: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Changes the luma and scales the chroma with it; what exceeds white loses saturation.

    Args:
      image: float32 (H, W, 3) in 0..255.
      luma: of the image, (H, W).
      changed: the new luma, (H, W); it is clipped to 0..255.
    """
    changed = np.clip(changed, 0, 255)[..., None]
    # In the dark the ratio would amplify noise of the colour.
    scaled = (image - luma[..., None]) * (changed / np.maximum(luma, _DARKEST)[..., None])
    excess = np.maximum(scaled.max(axis=-1, keepdims=True), 1e-6)
    return changed + np.minimum(1, (255 - changed) / excess) * scaled


def chroma_room(image: np.ndarray) -> np.ndarray:
    """Returns the largest factor of each pixel's chroma within RGB, at least 1, (H, W, 1)."""
    luma = (image @ LUMA_WEIGHTS)[..., None]
    chroma = image - luma
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(chroma > 0, (255 - luma) / chroma, np.where(chroma < 0, -luma / chroma, 9))
    return np.maximum(room.min(axis=-1, keepdims=True), 1)


def scale_chroma(image: np.ndarray, factor: float, room: np.ndarray) -> np.ndarray:
    """Scales the chroma by a factor, up to `room`, and keeps the luma of float32 (H, W, 3)."""
    luma = (image @ LUMA_WEIGHTS)[..., None]
    return luma + np.minimum(factor, room) * (image - luma)
