"""Resampling by a warp, and the part of an image that has a partner."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ditfuse_jax.align.geometry import MODELS, corners, transform
from ditfuse_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Warp:
    """Where the pixels of a reference image are in a moving image.

    Attributes:
      model: a name in `MODELS`.
      matrix: float64 (3, 3), homogeneous pixel coordinates (x, y, 1) of the reference -> of the
        moving image; the centre of the first pixel is (0, 0).
      reference_size, moving_size: (height, width) of the images.
    """

    model: str
    matrix: np.ndarray
    reference_size: tuple[int, int]
    moving_size: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "model": self.model,
            "matrix": np.asarray(self.matrix, np.float64).tolist(),
            "reference_size": list(self.reference_size),
            "moving_size": list(self.moving_size),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Warp":
        """Returns the warp of `to_dict`.

        Raises:
          ValueError, KeyError or TypeError: other values.
        """
        matrix = np.array(values["matrix"], np.float64)
        sizes = [values["reference_size"], values["moving_size"]]
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or values["model"] not in MODELS:
            raise ValueError("no warp")
        (height, width), (moving_height, moving_width) = sizes
        if min(height, width, moving_height, moving_width) < 1:
            raise ValueError("no image sizes")
        return cls(values["model"], matrix, (height, width), (moving_height, moving_width))

    def __str__(self) -> str:
        return json.dumps(self.to_dict())


def resample(image: np.ndarray, warp: Warp) -> tuple[np.ndarray, np.ndarray]:
    """Brings a moving image onto the pixels of its reference, with one interpolation.

    Args:
      image: uint8 or uint16 (H', W', 3).
      warp: of images of these sizes.

    Returns:
      The image (Lanczos, (H, W, 3) of the same type; the nearest pixels beyond its borders; the
      image itself if nothing moves), and where it has pixels, bool (H, W).

    Raises:
      UserError: the image is not of the warp's size.
    """
    if image.shape[:2] != warp.moving_size:
        raise UserError(
            f"the warp is for images of {warp.moving_size[1]}x{warp.moving_size[0]}, not "
            f"{image.shape[1]}x{image.shape[0]}: estimate it again"
        )
    height, width = warp.reference_size
    if warp.reference_size == warp.moving_size and np.array_equal(warp.matrix, np.eye(3)):
        return image, np.ones((height, width), bool)
    points = corners(height, width)
    mapped = transform(warp.matrix, points)
    # Where the moving image has more pixels, what the reference cannot show is smoothed away.
    sides = [np.linalg.norm(np.roll(p, -1, 0) - p, axis=1).sum() for p in (points, mapped)]
    shrink = sides[1] / max(sides[0], 1e-9)
    if shrink > 1.2:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * float(np.sqrt(shrink**2 - 1)))
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(
        image, warp.matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    where = transform(warp.matrix, np.stack([x, y], -1))
    limit = np.array(warp.moving_size[::-1]) - 1
    # Half a pixel lies within the outermost pixels; 1e-6 allows for rounding.
    inside = np.all((where >= -0.5 - 1e-6) & (where <= limit + 0.5 + 1e-6), axis=-1)
    return warped, np.asarray(inside)


def common_rectangle(masks: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Returns rows and columns of a large rectangle inside all masks, bool (H, W), convex each.

    The side with the largest share of missing pixels moves inwards until none is missing.  The
    rectangle is empty where the masks have nothing in common.
    """
    mask = np.logical_and.reduce(masks)
    top, left, bottom, right = 0, 0, *mask.shape
    while top < bottom and left < right:
        part = mask[top:bottom, left:right]
        missing = [1 - side.mean() for side in (part[0], part[-1], part[:, 0], part[:, -1])]
        worst = int(np.argmax(missing))
        if missing[worst] == 0:
            break
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return slice(top, bottom), slice(left, right)
