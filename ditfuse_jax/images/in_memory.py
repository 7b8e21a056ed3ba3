"""Images that are in memory already: NumPy and other arrays, and Pillow's images."""

import dataclasses
import os
from typing import Any

import numpy as np
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import reason
from ditfuse_jax.images.decode import FILE_FORMATS, decode_samples, read_samples
from ditfuse_jax.images.samples import Samples, check_one_frame, eight_bit_rgb
from ditfuse_jax.paths import as_path

_DEEP_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}  # of Pillow, with more than 8 bits
_UINT16_MAX = 65535


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image in memory.

    Attributes:
      samples: as those of a file.
      name: what messages and metadata call it.
    """

    samples: Samples
    name: str

    def __str__(self) -> str:
        return self.name


def load_image(image: Any, name: str) -> LoadedImage:
    """Reads a file, or takes an image in memory.

    Args:
      image: a path, an image of Pillow, or an array (NumPy, JAX, or any that NumPy converts) of
        shape (H, W), (H, W, 1), (H, W, 3) or, if uint8, (H, W, 4), whose alpha is put over black.
        It may be uint8; uint16, whose range is chosen as that of a file is; or float, with black 0
        and white 1.  Arrays are copied: the caller may write into them afterwards.
      name: what messages call it.

    Raises:
      UserError: it cannot be read, is one of several frames of a file and not chosen (Pillow's
        image is at the first), has masked values, or another shape, type or range.
    """
    if isinstance(image, LoadedImage):
        return image
    if isinstance(image, str | os.PathLike):
        path = as_path(image)
        return LoadedImage(read_samples(path), str(path))
    if isinstance(image, Image.Image):
        return LoadedImage(_pillow_samples(image, name), name)
    return LoadedImage(_array_samples(image, name), name)


def _pillow_samples(image: Image.Image, name: str) -> Samples:
    waits = getattr(image, "tile", None) and image.tell() == 0
    if waits and image.format in FILE_FORMATS:
        # Not decoded yet: the file is read as others are, since Pillow drops bits of some formats.
        samples = _file_samples(image, name)
        if image.size in (samples.values.shape[1::-1], samples.values.shape[:2]):
            return samples  # else `Image.draft` has chosen a smaller size
    if image.tell() == 0 and image.format != "TIFF":  # whose pages may be smaller copies
        check_one_frame(image, name)
    try:
        if image.mode not in _DEEP_MODES:
            return eight_bit_rgb(image.copy())
        values = np.array(image)
    except Exception as error:  # WebP is decoded here
        raise UserError(f"{name}: is damaged or truncated ({reason(error)})") from error
    if image.mode == "I":
        if values.min() < 0 or values.max() > _UINT16_MAX:
            raise UserError(f"{name}: values from {values.min()} to {values.max()}: no 16 bits")
        values = values.astype(np.uint16)
    if image.mode == "F":
        return _array_samples(values, name)
    return Samples(values.astype(np.uint16, copy=False))


def _file_samples(image: Image.Image, name: str) -> Samples:
    """Reads the file of an image that is opened and not decoded."""
    file = getattr(image, "filename", "")
    try:
        stream: Any = getattr(image, "fp", None)
        place = stream.tell()
        stream.seek(0)
        data = stream.read()
        stream.seek(place)
    except (AttributeError, OSError, ValueError) as error:  # closed since it was opened
        if not file:
            raise UserError(f"{name}: its file was closed before it was decoded") from error
        return read_samples(file)
    return decode_samples(data, str(file or name))


def as_array(image: Any, name: str) -> np.ndarray:
    """Returns what NumPy makes of an array of any library, in the byte order of this machine.

    Raises:
      UserError: it makes none of it, or values are masked.
    """
    if np.ma.is_masked(image):
        raise UserError(
            f"{name}: {np.ma.count_masked(image)} of its values are masked: give them a value, as "
            "by array.filled(0)"
        )
    try:
        values = np.asarray(image)
    except Exception as error:  # such as a tensor on a GPU, or with a gradient
        raise UserError(
            f"{name}: no array can be made of this {type(image).__name__} ({reason(error)})"
        ) from error
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _array_samples(image: Any, name: str) -> Samples:
    values = as_array(image, name)
    if values.dtype.name == "bfloat16" or values.dtype.kind == "f":
        values = values.astype(np.float32)
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        raise UserError(
            f"{name}: an array of {values.dtype} has no known black and white: convert it to uint8,"
            " uint16, or float from 0 to 1"
        )
    shape = values.shape
    if values.ndim == 3 and shape[-1] == 1:
        values = values[..., 0]
    grey = values.ndim == 2
    alpha = values.ndim == 3 and shape[-1] == 4 and values.dtype == np.uint8
    if values.size == 0 or not (grey or alpha or (values.ndim == 3 and shape[-1] == 3)):
        raise UserError(
            f"{name}: an array of shape {shape} is no image: give (height, width) or (height, "
            "width, 3)"
        )
    if values.dtype == np.uint8:
        if values.ndim == 3 and not alpha:
            return Samples(values.copy())
        return eight_bit_rgb(Image.fromarray(np.ascontiguousarray(values)))
    if values.dtype == np.uint16:
        return Samples(values.copy())
    least, largest = float(values.min()), float(values.max())
    if not (least >= 0 and largest <= 1):  # NaN compares as false
        raise UserError(
            f"{name}: float values from {least:.4g} to {largest:.4g}: scale them so that black is 0"
            " and white 1"
        )
    return Samples(values, full_range=True)
