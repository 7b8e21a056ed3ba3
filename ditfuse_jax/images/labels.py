"""Label images, whose pixels hold class numbers."""

import os

import numpy as np
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.decode import MAX_PIXELS, open_bytes, open_image
from ditfuse_jax.images.samples import load_upright, stored_samples

_BYTE = 255


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Returns the class numbers in a label file, `uint8 (H, W, 3)` with three equal channels.

    The numbers are the grey values (8 or 16 bits), the indices into a palette, whose colours are
    ignored, or the value of three equal channels.

    Raises:
      UserError: as `read_image`; also for colours without a palette and for numbers above 255.
    """
    with open_image(path) as image:
        return _numbers(image, str(path))


def decode_labels(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a byte string like `read_labels`; `name` is what error messages call it."""
    with open_bytes(data, name, max_pixels=max_pixels) as image:
        return _numbers(image, name)


def _numbers(image: Image.Image, name: str) -> np.ndarray:
    if image.mode in ("1", "L", "P", "I") or image.mode.startswith("I;16"):
        load_upright(image)
        numbers = np.asarray(image)
        if numbers.min() < 0 or numbers.max() > _BYTE:
            raise UserError(
                f"{name}: class numbers from {numbers.min()} to {numbers.max()}, but only 0 to "
                f"{_BYTE} can be labels"
            )
        return np.repeat(numbers.astype(np.uint8)[..., None], 3, axis=2)
    colours = stored_samples(image, name).values
    if colours.dtype != np.uint8 or (colours != colours[..., :1]).any():
        raise UserError(
            f"{name}: holds colours, not class numbers: save each pixel's class as its grey value"
        )
    return colours
