"""Showing a class in an image: its pixels mixed with one colour that scenes rarely have."""

import cv2
import numpy as np

COLOUR = (255, 0, 200)
SHARE = 0.6  # of the colour in what it covers

# Of classes that are all shown at once, by label; light and saturated, to be told apart.
PALETTE = np.array(
    [
        *((60, 160, 255), (170, 80, 30), (255, 255, 255), (110, 40, 255), (0, 255, 220)),
        *((0, 200, 0), (255, 230, 0), (120, 120, 0), (255, 0, 0), (255, 140, 0), (255, 0, 200)),
    ],
    np.float32,
)

# A scene's pixel nearer to the colour than this (levels, Euclidean) hardly changes under it.
_NEAR = 32.0
_NEIGHBOURHOOD = 7  # pixels, the side of the square that such a pixel is judged by


def overlay(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Returns a `uint8 (H, W, 3)` image with the colour over `where`, bool (H, W)."""
    return _mixed(image, np.array(COLOUR, np.float32), where)


def overlay_all(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns a `uint8 (H, W, 3)` image with a colour for each label (H, W).

    Labels beyond `PALETTE` are void and leave the image as it is.
    """
    known = labels < len(PALETTE)
    return _mixed(image, PALETTE[np.where(known, labels, 0)], known)


def _mixed(image: np.ndarray, colour: np.ndarray, where: np.ndarray) -> np.ndarray:
    mixed = np.rint((1 - SHARE) * image + SHARE * colour).astype(np.uint8)
    return np.where(where[..., None], mixed, image)


def overlay_mask(image: np.ndarray, clean: np.ndarray | None = None) -> np.ndarray:
    """Where an image shows the colour, bool (H, W); the inverse of `overlay`.

    With the scene the blend `image = clean + share (colour - clean)` is solved for the share of
    each pixel by least squares, and a pixel is covered where it is above half of `SHARE`: what the
    image changed in other directions than towards the colour does not count.  Every pixel that
    `overlay` changes is read back exactly.  A scene's own pixels near the colour show little of
    it: where such a pixel is neither the scene's nor the overlay's to the bit, and where it has the
    very colour, its neighbourhood is solved as one, in which pixels weigh as much as they can show.

    Args:
      image: `uint8 (H, W, 3)` with an overlay.
      clean: the scene without it.  Where nobody knows it, pixels are taken that are far more red
        and blue than green.
    """
    if clean is None:
        red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
        return np.minimum(red, blue) - green > 0.35 * SHARE * 255
    room = np.array(COLOUR, np.float32) - clean
    most = np.square(room).sum(-1)
    # Negative where the least-squares share, <change, room> / |room|^2, is below half of SHARE.
    evidence = ((image.astype(np.float32) - clean) * room).sum(-1) - 0.5 * SHARE * most
    around = cv2.boxFilter(evidence, -1, (_NEIGHBOURHOOD, _NEIGHBOURHOOD), normalize=False)
    everywhere = overlay(clean, np.ones(image.shape[:2], bool))
    certain = (image == clean).all(-1) | (image == everywhere).all(-1)
    unsure = (most == 0) | ((most < _NEAR**2) & ~certain)
    return np.where(unsure, around, evidence) > 0
