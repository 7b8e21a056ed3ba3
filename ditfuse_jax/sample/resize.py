"""Resizing of float images in NumPy, for sizes that occur once: nothing is compiled."""

import functools

import cv2
import numpy as np

_MOST_CHANNELS = 4  # that OpenCV transposes
_STRIP = 64  # rows


def resize_linear(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes images (..., H, W, C) to (..., *size, C) like `jax.image.resize(..., "linear")`.

    Values are interpolated between the centres of pixels; a downscaled pixel is the mean of the
    pixels that it covers, weighted by a triangle.
    """
    images = np.asarray(images)
    lead = images.shape[:-3]
    # Images that share their memory, as those of all branches of guidance, are resized once.
    shared = (slice(None if stride else 1) for stride in images.strides[: len(lead)])
    images = images[tuple(shared)]
    shrinks = size[0] < images.shape[-3]
    axes = (-3, -2) if shrinks else (-2, -3)  # the smaller result first
    for axis in axes:
        images = _along(images, axis, size[0] if axis == -3 else size[1])
    return (
        images
        if images.shape[:-3] == lead
        else np.broadcast_to(images, (*lead, *images.shape[-3:]))
    )


def _along(images: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Resizes one of the last three axes."""
    old = images.shape[axis]
    if old == length:
        return images
    lead, shape = images.shape[:-3], images.shape[-3:]
    views = [images[place] for place in np.ndindex(lead)]  # reshaped, some would be copied
    if axis == -3:
        resized = [_rows(image, length) for image in views]
    elif shape[-1] <= _MOST_CHANNELS:
        resized = [_turned(_rows(_turned(image), length)) for image in views]
    else:
        resized = [_rows(image.swapaxes(0, 1), length).swapaxes(0, 1) for image in views]
    whole = np.stack(resized) if len(resized) > 1 else resized[0]
    return whole.reshape(*lead, *resized[0].shape)


def _rows(image: np.ndarray, length: int) -> np.ndarray:
    """Resizes (N, M, C) to (length, M, C).

    A sum of few rows for each, and no product of matrices: NumPy's library shares it between
    threads that use up processors while they wait for each other.
    """
    places, weights = _taps(len(image), length)
    result = np.empty((length, *image.shape[1:]), np.result_type(image, np.float32))
    for top in range(0, length, _STRIP):  # for small intermediate results
        strip = slice(top, top + _STRIP)
        part = image[places[0, strip]] * weights[0, strip, None, None]
        for place, weight in zip(places[1:, strip], weights[1:, strip], strict=True):
            part += image[place] * weight[:, None, None]
        result[strip] = part
    return result


def _turned(image: np.ndarray) -> np.ndarray:
    """(N, M, C) -> (M, N, C)."""
    return cv2.transpose(image).reshape(image.shape[1], image.shape[0], -1)


@functools.lru_cache(maxsize=16)
def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, new) the old pixels that each new one is made of, and float32 (K, new) their shares."""
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale - 0.5
    first = np.floor(centres - reach).astype(int) + 1
    places = first + np.arange(int(2 * reach) + 1)[:, None]
    triangle = np.maximum(0, 1 - np.abs(centres - places) / reach)
    triangle[(places < 0) | (places >= old)] = 0
    weights = (triangle / triangle.sum(0)).astype(np.float32)
    return np.clip(places, 0, old - 1), weights
