"""Showing a class in an image: its pixels mixed with one colour that scenes rarely have."""

import numpy as np

COLOUR = (255, 0, 200)
SHARE = 0.6  # of the colour in what it covers


def overlay(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Returns a `uint8 (H, W, 3)` image with the colour over `where`, bool (H, W)."""
    colour = np.array(COLOUR, np.float32)
    mixed = np.rint((1 - SHARE) * image + SHARE * colour).astype(np.uint8)
    return np.where(where[..., None], mixed, image)


def read_overlay(image: np.ndarray, clean: np.ndarray | None = None) -> np.ndarray:
    """Where an image shows the colour, bool (H, W); the inverse of `overlay`.

    Args:
      image: `uint8 (H, W, 3)` with an overlay.
      clean: the scene without it, which makes the decision certain: a pixel is covered where it is
        nearer to the scene mixed with the colour than to the scene.  Without it, pixels are taken
        that are far more red and blue than green.
    """
    values = image.astype(np.float32)
    if clean is None:
        red, green, blue = np.moveaxis(values, -1, 0)
        return np.minimum(red, blue) - green > 0.35 * SHARE * 255
    covered = overlay(clean, np.ones(image.shape[:2], bool)).astype(np.float32)
    far, near = (np.square(values - x).sum(-1) for x in (clean.astype(np.float32), covered))
    return near < far
