"""Converts colour-coded label masks to class numbers, once, into a folder beside them."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, write_bytes
from ditfuse_jax.images import read_image

Color = tuple[int, int, int]

_BLACK = (0, 0, 0)
# Masks drawn by hand have some pixels of undefined colours; many mean another colour table.
_MAX_UNDEFINED = 0.01


def class_numbers(image: np.ndarray, colors: Mapping[Color, int], name: str) -> np.ndarray:
    """Returns the class of every pixel of a coloured mask, `uint8 (H, W)`.

    Args:
      image: `uint8 (H, W, 3)` RGB.
      colors: (red, green, blue) -> class number, including black; undefined colours count as black.
      name: of the image, for error messages.

    Raises:
      UserError: more than 1 % of the pixels have undefined colours.
    """
    table = sorted((_packed(np.array(color)), number) for color, number in colors.items())
    codes = np.array([code for code, _ in table])
    numbers = np.array([number for _, number in table], np.uint8)
    packed = _packed(image.astype(np.int64))
    where = np.searchsorted(codes, packed).clip(max=len(codes) - 1)
    known = codes[where] == packed
    undefined = 1 - float(known.mean())
    if undefined > _MAX_UNDEFINED:
        raise UserError(
            f"{name}: {undefined:.0%} of the pixels have colours that no class has: is it a mask "
            "of this data set?"
        )
    return np.where(known, numbers[where], np.uint8(colors[_BLACK]))


def numbered_mask(path: Path, colors: Mapping[Color, int]) -> Path:
    """Returns the file with the class numbers of a coloured mask; writes it if it is missing.

    It is a grey PNG of the same name in a folder beside the mask's, with `_classes` appended.

    Raises:
      UserError: the mask cannot be used or the file cannot be written.
    """
    folder = path.parent.with_name(f"{path.parent.name}_classes")
    numbered = folder / f"{path.stem}.png"
    if not numbered.is_file():
        numbers = class_numbers(read_image(path), colors, str(path))
        make_folder(folder)
        done, encoded = cv2.imencode(".png", numbers)
        assert done
        write_bytes(numbered, encoded.tobytes())
    return numbered


def _packed(colors: np.ndarray) -> np.ndarray:
    return (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
