"""Random views of training images; images that belong together move together."""

import math
from collections.abc import Container, Sequence

import numpy as np

from ditfuse_jax.images import check_same_size, resize_image

# A crop needs this many times its own size of photograph before downscaling is worth its blur.
_ROOM_TO_DOWNSCALE = 2.0
_DOWNSCALED_SHARE = 0.5


def random_view(
    images: Sequence[np.ndarray],
    rng: np.random.Generator,
    crop: tuple[int, int] | None,
    *,
    vertical_flip: bool,
    labels: Container[int] = (),
    full_scene_probability: float = 0.0,
    around: tuple[int, int] | None = None,
) -> tuple[np.ndarray, ...]:
    """A random crop, randomly mirrored; without a size the images as they are, cut before.

    See `random_crop` and `random_flips`.
    """
    if crop is None:
        return tuple(images)
    cut = random_crop(images, rng, crop, labels, full_scene_probability, around)
    return random_flips(cut, rng, vertical_flip=vertical_flip)


def random_crop(
    images: Sequence[np.ndarray],
    rng: np.random.Generator,
    crop: tuple[int, int],
    labels: Container[int] = (),
    full_scene_probability: float = 0.0,
    around: tuple[int, int] | None = None,
) -> tuple[np.ndarray, ...]:
    """Returns the same window of each `uint8 (H, W, 3)` image at size `crop` (height, width).

    Half of the crops are the image's own pixels, as the model meets them in use.  The other half,
    where the image has room for it, is downscaled first, log-uniformly down to the crop just
    fitting: a few photographs then give crops from bare texture to whole scenes.  An image smaller
    than the crop is upscaled just enough.  The images with an index in `labels` hold class numbers,
    which are never interpolated.  With `full_scene_probability` a crop instead shows as much of the
    image as its aspect ratio allows, for tasks that are about scenes.

    Raises:
      UserError: the images differ in size.
    """
    check_same_size(images, [f"image {number}" for number in range(1, len(images) + 1)])
    height, width = images[0].shape[:2]
    room = min(height / crop[0], width / crop[1])
    whole = full_scene_probability > 0 and rng.random() < full_scene_probability
    scale = 1 / room if whole else _draw_scale(room, rng)
    # The window is cut before it is resized: the same pixels as the other way around, for less.
    window_height = min(max(1, round(crop[0] / scale)), height)
    window_width = min(max(1, round(crop[1] / scale)), width)
    row, column = around or (None, None)
    top = _draw_start(height, window_height, row, rng)
    left = _draw_start(width, window_width, column, rng)
    window = np.s_[top : top + window_height, left : left + window_width]
    return tuple(
        resize_image(image[window], *crop, labels=k in labels) for k, image in enumerate(images)
    )


def random_flips(
    images: Sequence[np.ndarray], rng: np.random.Generator, *, vertical_flip: bool
) -> tuple[np.ndarray, ...]:
    """Mirrors all images left-right or none, by a coin; with `vertical_flip` also top-bottom.

    Upside-down scenes serve where only local structure matters, not where roads meet the sky.
    """
    horizontal = -1 if rng.random() < 0.5 else 1
    vertical = -1 if vertical_flip and rng.random() < 0.5 else 1
    return tuple(np.ascontiguousarray(image[::vertical, ::horizontal]) for image in images)


def _draw_start(length: int, window: int, point: int | None, rng: np.random.Generator) -> int:
    """The first pixel of a window within 0..length, one that holds the point if there is one."""
    first, last = 0, length - window
    if point is not None:
        first, last = max(first, point - window + 1), min(last, point)
    return int(rng.integers(first, last + 1))


def _draw_scale(room: float, rng: np.random.Generator) -> float:
    """Returns the factor of resizing an image that is `room` times as large as the crop."""
    if room < 1:
        return 1 / room
    if room < _ROOM_TO_DOWNSCALE or rng.random() >= _DOWNSCALED_SHARE:
        return 1.0
    return math.exp(rng.uniform(-math.log(room), 0.0))
