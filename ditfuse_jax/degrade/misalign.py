"""A small residual misalignment of one image: what registration leaves between two cameras."""

import cv2
import numpy as np

from ditfuse_jax.degrade.degradation import Params

MAX_SHIFT = 4.0  # pixels
_BEND = 1.0  # pixels, deviation of the smooth displacement
_BEND_GRID = (3, 4)  # control points of it, rows and columns


def misalign(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Moves an image by 0 to 4 pixels and bends it slightly.

    The shift is uniform in a disc's radius and angle; the bend is a bicubic field through
    normally distributed displacements of about one pixel.  The image is resampled once, linearly;
    what comes in at the borders is mirrored.

    Args:
      image: uint8 (H, W, 3), which is not modified.
      rng: draws the displacement.

    Returns:
      The moved image, and `shift_x` and `shift_y` in pixels, right and down.
    """
    height, width = image.shape[:2]
    length, angle = rng.uniform(0, MAX_SHIFT), rng.uniform(0, 2 * np.pi)
    shift = np.array([length * np.cos(angle), length * np.sin(angle)], np.float32)
    bend = _BEND * rng.standard_normal((*_BEND_GRID, 2)).astype(np.float32)
    field = cv2.resize(bend, (width, height), interpolation=cv2.INTER_CUBIC) + shift
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    moved = cv2.remap(
        image,
        columns - field[..., 0],
        rows - field[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return moved, {"shift_x": float(shift[0]), "shift_y": float(shift[1])}
