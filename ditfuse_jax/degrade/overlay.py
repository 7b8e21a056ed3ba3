"""Marks a class in an image by blending its pixels with a colour that scenes rarely have."""

from collections.abc import Sequence

import cv2
import numpy as np

COLOUR = (255, 0, 200)
OPACITY = 0.6  # of the colour

# Colours of all classes at once, by label; light, saturated and distinguishable.
PALETTE = np.array(
    [
        *((60, 160, 255), (170, 80, 30), (255, 255, 255), (110, 40, 255), (0, 255, 220)),
        *((0, 200, 0), (255, 230, 0), (120, 120, 0), (255, 0, 0), (255, 140, 0), (255, 0, 200)),
    ],
    np.float32,
)

# A pixel nearer to the colour than this (levels, Euclidean) hardly changes by the overlay.
_NEAR = 32.0
_FAINTEST = 0.6  # of the opacity, at the border of a smooth overlay
_NEIGHBOURHOOD = 7  # pixels, side of the square that decides about such a pixel


def overlay(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Blends the colour into a `uint8 (H, W, 3)` image at `where`, bool (H, W)."""
    return _mixed(image, np.array(COLOUR, np.float32), where)


def overlay_all(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Blends the colour of each label (H, W) into a `uint8 (H, W, 3)` image.

    Labels beyond `PALETTE` are void and leave the image unchanged.
    """
    known = labels < len(PALETTE)
    return _mixed(image, PALETTE[np.where(known, labels, 0)], known)


def overlay_classes(image: np.ndarray, labels: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Marks classes: one in the colour of `overlay`, several in those of `overlay_all`.

    Args:
      image: `uint8 (H, W, 3)`.
      labels: (H, W) class numbers.
      numbers: those to mark.
    """
    if len(numbers) == 1:
        return overlay(image, labels == numbers[0])
    return overlay_all(image, np.where(np.isin(labels, numbers), labels, len(PALETTE)))


def smooth_overlay(image: np.ndarray, labels: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """`overlay_classes` without stairs: its outermost pixels are fainter, but still covered.

    Args:
      image: uint8 or uint16 (H, W, 3).
      labels: (H, W) class numbers.
      numbers: those to mark.

    Returns:
      (H, W, 3) of the image's type, equal to it outside the classes; `overlay_mask` finds them.
    """
    where = np.isin(labels, numbers)
    inside = cv2.GaussianBlur(where.astype(np.float32), (3, 3), 0)
    opacity = OPACITY * np.where(where, np.maximum(inside, _FAINTEST), 0)[..., None]
    colours: np.ndarray = np.array(COLOUR, np.float32)
    if len(numbers) > 1:
        colours = PALETTE[np.where(where, labels, 0)]
    largest = np.iinfo(image.dtype).max
    mixed = image + opacity * (colours * np.float32(largest / 255) - image)
    return np.clip(np.rint(mixed), 0, largest).astype(image.dtype)


def _mixed(image: np.ndarray, colour: np.ndarray, where: np.ndarray) -> np.ndarray:
    mixed = np.rint((1 - OPACITY) * image + OPACITY * colour).astype(np.uint8)
    return np.where(where[..., None], mixed, image)


def overlay_mask(image: np.ndarray, clean: np.ndarray | None = None) -> np.ndarray:
    """Returns where an image shows the colour, bool (H, W); the inverse of `overlay`.

    With the clean image, `image = clean + opacity * (colour - clean)` is solved for the opacity of
    each pixel by least squares; a pixel is covered if it exceeds half of `OPACITY`.  Changes in
    other directions than towards the colour are ignored.  Every pixel that `overlay` changes is
    recovered exactly.  Pixels of the scene near the colour carry little information: unless such a
    pixel equals the clean or the overlaid one exactly, and where it has the colour itself, its
    neighbourhood decides, in which pixels are weighted by how much they can change.

    Args:
      image: `uint8 (H, W, 3)` with an overlay.
      clean: the image without it; if unknown, pixels with much more red and blue than green count.
    """
    if clean is None:
        red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
        return np.minimum(red, blue) - green > 0.35 * OPACITY * 255
    largest = np.array(COLOUR, np.float32) - clean
    largest_squared = np.square(largest).sum(-1)
    # Negative where the least-squares opacity, <change, largest> / |largest|^2, is below the half.
    evidence = ((image.astype(np.float32) - clean) * largest).sum(
        -1
    ) - 0.5 * OPACITY * largest_squared
    around = cv2.boxFilter(evidence, -1, (_NEIGHBOURHOOD, _NEIGHBOURHOOD), normalize=False)
    everywhere = overlay(clean, np.ones(image.shape[:2], bool))
    certain = (image == clean).all(-1) | (image == everywhere).all(-1)
    unsure = (largest_squared == 0) | ((largest_squared < _NEAR**2) & ~certain)
    return np.where(unsure, around, evidence) > 0
