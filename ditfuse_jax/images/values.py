"""Conversion between bytes, as in files, and values in [-1, 1], as in the model."""

import numpy as np

from ditfuse_jax.errors import UserError


def check_rgb(image: np.ndarray, name: str) -> None:
    """Raises UserError unless `image` is a non-empty `uint8 (H, W, 3)` array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(
            f"{name}: expected a uint8 array (height, width, 3), got {image.dtype} {image.shape}"
        )


def from_uint8(image: np.ndarray) -> np.ndarray:
    """Converts bytes to float32 in [-1, 1], same shape: `x / 127.5 - 1`."""
    return image.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Converts values in [-1, 1] to the nearest bytes, same shape; values outside are clipped.

    Raises:
      UserError: a value is NaN or infinite.
    """
    image = np.asarray(image, np.float32)
    if not np.isfinite(image).all():
        raise UserError(
            "the image holds NaN or infinite values: the weights are damaged or training diverged"
        )
    return np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)
