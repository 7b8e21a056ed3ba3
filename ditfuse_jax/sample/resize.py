"""Resizing of float images in NumPy, for sizes that occur once: nothing is compiled."""

import numpy as np


def resize_linear(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes images (..., H, W, C) to (..., *size, C) like `jax.image.resize(..., "linear")`.

    Values are interpolated between the centres of pixels; a downscaled pixel is the mean of the
    pixels that it covers, weighted by a triangle.
    """
    shrinks = size[0] < images.shape[-3]
    axes = (-3, -2) if shrinks else (-2, -3)  # the smaller result first
    for axis in axes:
        images = _along(images, axis, size[0] if axis == -3 else size[1])
    return images


def _along(images: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Resizes one of the last three axes."""
    old = images.shape[axis]
    if old == length:
        return images
    lead, rest = images.shape[: images.ndim + axis], images.shape[images.ndim + axis + 1 :]
    # One product of matrices for each image, or for each of its rows.
    flat = images.reshape(*lead, old, -1)
    return (_weights(old, length) @ flat).reshape(*lead, length, *rest)


def _weights(old: int, new: int) -> np.ndarray:
    """(new, old) float32: the share of each old pixel in each new one; every row adds up to 1."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    distances = np.abs(centres[:, None] - np.arange(old)) / max(scale, 1.0)
    triangle = np.maximum(0, 1 - distances)
    return (triangle / triangle.sum(1, keepdims=True)).astype(np.float32)
