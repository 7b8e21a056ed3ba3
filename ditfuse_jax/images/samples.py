"""The samples of an opened image, with all of their bits.

Pillow decodes up to 8 bits per channel, and 16-bit grey.  16-bit colour and float samples come from
OpenCV, those with a plane per channel from tifffile: the others read such planes as noise.
"""

import contextlib
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps

from ditfuse_jax.errors import UserError

_PNG_DEPTH = 24  # position of the bit depth in a PNG file
_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_PHOTOMETRIC, _TIFF_CHANNELS = 258, 259, 262, 277
_TIFF_MAX_SAMPLE = 281
_PNG_HEAD = 512  # bytes, in which `write_image` puts `sBIT`
_TIFF_PLANAR, _TIFF_EXTRA, _TIFF_FORMAT = 284, 338, 339
_UNSIGNED, _FLOAT = 1, 3  # sample formats
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # photometric interpretations
_PALETTE, _CMYK, _YCBCR = 3, 5, 6

_COMPRESSIONS = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT G3",
    4: "CCITT G4",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
}
_UPRIGHT = {  # EXIF 2.32, table of orientations
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}
_UINT16_MAX = 65535


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of an image as they are stored.

    Attributes:
      values: `uint8 (H, W, 3)` RGB; or, with more bits, uint16 or float32, (H, W) grey or (H, W, 3)
        RGB.
      full_range: whether the file says that white is the largest value: PNG by its `sBIT` chunk,
        TIFF by `MaxSampleValue`, as `write_image` does.
    """

    values: np.ndarray
    full_range: bool = False


def stored_samples(image: Image.Image, name: str) -> Samples:
    """Returns the pixels of an opened image as they are stored.

    Raises:
      UserError: a layout that no decoder here is known to read correctly.
    """
    bits = 8
    if image.format == "PNG":
        bits = _bytes_of(image, _PNG_DEPTH + 1)[_PNG_DEPTH]
    elif image.format == "TIFF":
        bits = _tiff_bits(image, name)
    if bits > 8:
        return _deep_samples(image, name)
    return Samples(eight_bit_rgb(image))


def eight_bit_rgb(image: Image.Image) -> np.ndarray:
    """Returns an image of up to 8 bits per channel as uint8 (H, W, 3), upright; changes `image`."""
    load_upright(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


def as_rgb(samples: np.ndarray) -> np.ndarray:
    """Returns (H, W) or (H, W, 3) as (H, W, 3)."""
    return samples if samples.ndim == 3 else np.repeat(samples[..., None], 3, axis=2)


def load_upright(image: Image.Image) -> None:
    """Decodes the pixels of an opened image and applies its EXIF orientation."""
    image.load()
    # The pixels are decoded: a damaged EXIF block is ignored.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _bytes_of(image: Image.Image, count: int = -1) -> bytes:
    """The first bytes of an opened image's file, or all; its pixels must not be decoded yet."""
    stream: Any = getattr(image, "fp", None)
    place = stream.tell()
    stream.seek(0)
    data = stream.read(count)
    stream.seek(place)
    return data


def _tiff_tags(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF file by number; none for other formats."""
    return getattr(image, "tag_v2", {})


def _tiff_bits(image: Image.Image, name: str) -> int:
    """Bits per sample of a TIFF file whose layout is read correctly.

    Raises:
      UserError: another layout.
    """
    tags = _tiff_tags(image)
    bits = set(tags.get(_TIFF_BITS, (1,)))
    formats = set(tags.get(_TIFF_FORMAT, (_UNSIGNED,)))
    photometric = tags.get(_TIFF_PHOTOMETRIC, _BLACK_IS_ZERO)
    compression = tags.get(_TIFF_COMPRESSION, 1)

    def refuse(what: str) -> UserError:
        return UserError(
            f"{name}: TIFF with {what}: save it with 8 or 16 unsigned bits per channel, grey or"
            " RGB, uncompressed or with LZW or deflate"
        )

    if formats not in ({_UNSIGNED}, {_FLOAT}):
        raise refuse("signed or complex samples")
    if formats == {_FLOAT} and bits != {32}:
        raise refuse(f"{_listed(bits)}-bit floats")
    if formats == {_UNSIGNED} and (len(bits) > 1 or not bits <= {1, 2, 4, 8, 16}):
        raise refuse(f"{_listed(bits)} bits per channel")
    if compression not in _COMPRESSIONS:
        raise refuse(f"compression {compression}")
    deep = max(bits) > 8
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB}
    if photometric not in (known if deep else known | {_PALETTE, _CMYK, _YCBCR}):
        raise refuse(f"colour space {photometric}" + (" in 16 bits" if deep else ""))
    if tags.get(_TIFF_PLANAR, 1) == 2 and compression not in ((1, 8, 32946) if deep else (1, 5, 8)):
        raise refuse(f"separate planes and compression {_COMPRESSIONS[compression]}")
    if tags.get(_TIFF_CHANNELS, 1) > 4:
        raise refuse(f"{tags[_TIFF_CHANNELS]} channels")
    return max(bits)


def _listed(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _deep_samples(image: Image.Image, name: str) -> Samples:
    """Samples of a PNG or TIFF with 16-bit or float channels."""
    data = _bytes_of(image)
    is_tiff = image.format == "TIFF"
    tags = _tiff_tags(image)
    grey = image.mode in ("I;16", "I;16B", "I;16L", "F", "L", "LA") or (
        not is_tiff and data[25] in (0, 4)
    )
    orientation = 1
    with contextlib.suppress(Exception):  # see `load_upright`
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    transparent = image.info.get("transparency")
    image.load()  # OpenCV fills what a truncated file lacks; Pillow raises
    if is_tiff and tags.get(_TIFF_PLANAR, 1) == 2:
        samples = tifffile.imread(io.BytesIO(data), key=0)
        samples = np.moveaxis(samples, 0, -1) if samples.ndim == 3 else samples
    else:
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if decoded is None or decoded.dtype not in (np.uint16, np.float32):
            raise UserError(f"{name}: its {image.format} layout is not supported: save it as PNG")
        samples = decoded
        if samples.ndim == 3:  # from BGR
            samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        samples = (1 if samples.dtype == np.float32 else _UINT16_MAX) - samples
    if samples.ndim == 3 and samples.shape[2] == 4:
        samples = _over_black(samples, tags.get(_TIFF_EXTRA, (2,)))
    elif transparent is not None:
        where = samples == np.array(transparent)
        samples = np.where(where.all(-1, keepdims=True) if samples.ndim == 3 else where, 0, samples)
    if grey and samples.ndim == 3:
        samples = samples[..., 0]
    upright = np.ascontiguousarray(_UPRIGHT.get(orientation, lambda x: x)(samples))
    if is_tiff:
        full_range = set(tags.get(_TIFF_MAX_SAMPLE, ())) == {_UINT16_MAX}
    else:
        full_range = b"sBIT" in data[:_PNG_HEAD]
    return Samples(upright, full_range)


def _over_black(samples: np.ndarray, kinds: tuple[int, ...]) -> np.ndarray:
    """Composites (H, W, 4) over black; the fourth channel counts only if it is called alpha."""
    if kinds[0] != 2:  # multiplied already, or of another meaning
        return samples[..., :3]
    alpha = samples[..., 3:].astype(np.float64) / _UINT16_MAX
    return np.rint(samples[..., :3] * alpha).astype(np.uint16)
