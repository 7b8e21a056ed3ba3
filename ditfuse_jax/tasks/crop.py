"""Random crops and flips, the same for all images of a stack."""

import math
from collections.abc import Container, Sequence

import numpy as np

from ditfuse_jax.images import check_same_size, resize_image

# Crops are downscaled only from images at least this many times as large.
_MIN_RATIO_TO_DOWNSCALE = 2.0
_DOWNSCALE_PROBABILITY = 0.5


def random_crop_and_flip(
    images: Sequence[np.ndarray],
    rng: np.random.Generator,
    crop: tuple[int, int] | None,
    *,
    vertical_flip: bool,
    labels: Container[int] = (),
    full_scene_probability: float = 0.0,
    containing: tuple[int, int] | None = None,
) -> tuple[np.ndarray, ...]:
    """Returns `random_flips` of a `random_crop`; without `crop` the images unchanged."""
    if crop is None:
        return tuple(images)
    cut = random_crop(images, rng, crop, labels, full_scene_probability, containing)
    return random_flips(cut, rng, vertical_flip=vertical_flip)


def random_crop(
    images: Sequence[np.ndarray],
    rng: np.random.Generator,
    crop: tuple[int, int],
    labels: Container[int] = (),
    full_scene_probability: float = 0.0,
    containing: tuple[int, int] | None = None,
) -> tuple[np.ndarray, ...]:
    """Returns the same window of each `uint8 (H, W, 3)` image at size `crop` (height, width).

    Half of the crops keep the image's resolution, as in use.  The other half, if the image is large
    enough, is downscaled first by a log-uniform factor, at most until the image just covers the
    crop: a few photographs then give crops from texture to whole scenes.  An image smaller than the
    crop is upscaled to cover it.

    Args:
      images: all of one size.
      rng: random numbers.
      crop: (height, width) of the result.
      labels: indices of the images that hold class numbers, which are not interpolated.
      full_scene_probability: probability that the crop instead covers as much of the image as its
        aspect ratio allows.
      containing: (row, column) of a pixel that the window contains.

    Raises:
      UserError: the images differ in size.
    """
    check_same_size(images, [f"image {number}" for number in range(1, len(images) + 1)])
    height, width = images[0].shape[:2]
    ratio = min(height / crop[0], width / crop[1])
    whole = full_scene_probability > 0 and rng.random() < full_scene_probability
    scale = 1 / ratio if whole else _draw_scale(ratio, rng)
    # The window is cropped before it is resized: the same pixels for less computation.
    window_height = min(max(1, round(crop[0] / scale)), height)
    window_width = min(max(1, round(crop[1] / scale)), width)
    row, column = containing or (None, None)
    top = _draw_start(height, window_height, row, rng)
    left = _draw_start(width, window_width, column, rng)
    window = np.s_[top : top + window_height, left : left + window_width]
    return tuple(
        resize_image(image[window], *crop, labels=k in labels) for k, image in enumerate(images)
    )


def random_flips(
    images: Sequence[np.ndarray], rng: np.random.Generator, *, vertical_flip: bool
) -> tuple[np.ndarray, ...]:
    """Flips all images left-right with probability 1/2; with `vertical_flip` also top-bottom.

    Vertical flips suit tasks about local structure, not tasks about scenes.
    """
    horizontal = -1 if rng.random() < 0.5 else 1
    vertical = -1 if vertical_flip and rng.random() < 0.5 else 1
    return tuple(np.ascontiguousarray(image[::vertical, ::horizontal]) for image in images)


def _draw_start(length: int, window: int, point: int | None, rng: np.random.Generator) -> int:
    """Draws the start of a window within 0..length that contains the point, if there is one."""
    first, last = 0, length - window
    if point is not None:
        first, last = max(first, point - window + 1), min(last, point)
    return int(rng.integers(first, last + 1))


def _draw_scale(ratio: float, rng: np.random.Generator) -> float:
    """Draws the scale factor of an image that is `ratio` times as large as the crop."""
    if ratio < 1:
        return 1 / ratio
    if ratio < _MIN_RATIO_TO_DOWNSCALE or rng.random() >= _DOWNSCALE_PROBABILITY:
        return 1.0
    return math.exp(rng.uniform(-math.log(ratio), 0.0))
