"""Conversion between 8- or 16-bit pixels and values in [-1, 1], as in the model."""

import numpy as np

from ditfuse_jax.errors import UserError


def check_rgb(image: np.ndarray, name: str, *, deep: bool = False) -> None:
    """Raises UserError unless `image` is a non-empty `uint8 (H, W, 3)` array; `deep`: or uint16."""
    known = image.dtype == np.uint8 or (deep and image.dtype == np.uint16)
    if not known or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(
            f"{name}: expected a uint8{' or uint16' if deep else ''} array (height, width, 3), got"
            f" {image.dtype} {image.shape}"
        )


def with_depth(image: np.ndarray, depth: int) -> np.ndarray:
    """Converts uint8 or uint16 pixels to 8 or 16 bits; 8 -> 16 -> 8 bits changes nothing."""
    if image.dtype.itemsize * 8 == depth:
        return image
    if depth == 16:
        return image.astype(np.uint16) * 257
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def from_pixels(image: np.ndarray) -> np.ndarray:
    """Converts uint8 or uint16 pixels to float32 in [-1, 1], same shape."""
    if image.dtype == np.uint8:
        return from_uint8(image)
    return _from_levels(image, np.float32(32767.5))


def from_uint8(image: np.ndarray) -> np.ndarray:
    """Converts bytes to float32 in [-1, 1], same shape: `x / 127.5 - 1`."""
    return _from_levels(image, np.float32(127.5))


def _from_levels(image: np.ndarray, middle: np.float32) -> np.ndarray:
    values = image.astype(np.float32)
    values /= middle  # in place: large images leave little memory
    values -= np.float32(1)
    return values


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Converts values in [-1, 1] to the nearest bytes; see `to_pixels`."""
    return to_pixels(image, 8)


def to_pixels(image: np.ndarray, depth: int) -> np.ndarray:
    """Converts values in [-1, 1] to the nearest pixel values of 8 or 16 bits, same shape.

    Values outside are clipped.

    Raises:
      UserError: a value is NaN or infinite.
    """
    image = np.asarray(image, np.float32)
    if not np.isfinite(image.sum(dtype=np.float64)):  # without an array of booleans
        raise UserError(
            "the image holds NaN or infinite values: the weights are damaged or training diverged"
        )
    largest, dtype = (65535, np.uint16) if depth == 16 else (255, np.uint8)
    scaled = image + np.float32(1)
    scaled *= np.float32(largest / 2)
    np.clip(np.rint(scaled, out=scaled), 0, largest, out=scaled)
    return scaled.astype(dtype)
