"""The samples of an opened image, with all of their bits.

Pillow decodes up to 8 bits per channel, and 16-bit grey.  16-bit colour and float samples come from
OpenCV, those with a plane per channel from tifffile: the others read such planes as noise.
"""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.colours import to_srgb8, to_srgb16
from ditfuse_jax.images.png_colours import png_notes

_PNG_DEPTH = 24  # position of the bit depth in a PNG file
_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_PHOTOMETRIC, _TIFF_CHANNELS = 258, 259, 262, 277
_TIFF_MAX_SAMPLE = 281
_PNG_HEAD = 512  # bytes, in which `write_image` puts `sBIT`
_TIFF_SUBFILE, _TIFF_NOT_A_PAGE = 254, 1 | 4  # a smaller copy, a mask
_TIFF_MOST_PAGES = 16
_TIFF_DESCRIPTION, _TIFF_DEPTH = 270, 32997
_TIFF_STRIPS, _TIFF_STRIP_BYTES = 273, 279
_TIFF_PLANAR, _TIFF_EXTRA, _TIFF_FORMAT = 284, 338, 339
_TIFF_UNSPECIFIED, _TIFF_PREMULTIPLIED, _TIFF_ALPHA = (
    0,
    1,
    2,
)  # kinds of channels beside the colours
_UNSIGNED, _FLOAT = 1, 3  # sample formats
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # photometric interpretations
_PALETTE, _CMYK, _YCBCR = 3, 5, 6

# Those that Pillow and OpenCV read.
TIFF_COMPRESSIONS = {
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

TRANSPARENT = "its transparent parts are put over black"


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of an image as they are stored.

    Attributes:
      values: `uint8 (H, W, 3)` RGB; or, with more bits, uint16 or float32, (H, W) grey or (H, W, 3)
        RGB.
      full_range: whether the file says that white is the largest value: PNG by its `sBIT` chunk,
        TIFF by `MaxSampleValue`, as `write_image` does.
      linear: whether the values are proportional to light, without the curve of sRGB.
      notes: what a user should know of how the file was read.
    """

    values: np.ndarray
    full_range: bool = False
    linear: bool = False
    notes: tuple[str, ...] = ()


def stored_samples(image: Image.Image, name: str) -> Samples:
    """Returns the pixels of an opened image as they are stored.

    Raises:
      UserError: several frames or pages, or a layout that no decoder here is known to read
        correctly.
    """
    check_one_frame(image, name)
    bits, notes = 8, ()
    if image.format == "PNG":
        bits = _bytes_of(image, _PNG_DEPTH + 1)[_PNG_DEPTH]
        stream: Any = getattr(image, "fp", None)
        notes = png_notes(stream, name)
        transparent = image.info.get("transparency")
        if bits in (2, 4) and image.mode == "L" and isinstance(transparent, int):
            image.info["transparency"] = transparent * 255 // (2**bits - 1)  # as Pillow's pixels
    elif image.format == "TIFF":
        bits = _tiff_bits(image, name)
    if bits > 8:
        return _deep_samples(image, name, notes)
    return eight_bit_rgb(image, notes)


def check_one_frame(image: Image.Image, name: str) -> None:
    """Raises UserError if an image holds several frames (GIF, WebP, APNG) or pages (TIFF).

    Smaller copies and masks in a TIFF do not count.  Nor do the further images of a JPEG: they
    belong to the first one.
    """
    if image.format == "TIFF":
        tags = _tiff_tags(image)
        depth = tags.get(_TIFF_DEPTH, 1)
        description = tags.get(_TIFF_DESCRIPTION)
        places, sizes = tags.get(_TIFF_STRIPS, ()), tags.get(_TIFF_STRIP_BYTES, ())
        if (
            sum(_tiff_pages(image)) > 1
            or depth != 1
            or is_part_of_stack(description, places, sizes, _length_of(image))
        ):
            raise several_pages(name)
    elif image.format in ("PNG", "GIF", "WEBP") and (frames := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"{name}: holds {frames} frames: save the one to fuse as its own file")


def is_part_of_stack(
    description: object, places: Sequence[int], sizes: Sequence[int], length: int
) -> bool:
    """Whether further images follow the first one of a TIFF without a directory.

    ImageJ and tifffile write stacks like that, uncompressed, and say so in the description.  Who
    takes one image out may copy the description.

    Args:
      description: of the first image.
      places, sizes: of the parts of its pixels, in bytes.
      length: of the file.
    """
    if not places or min(places) + 2 * sum(sizes) > length:
        return False
    text = description if isinstance(description, str) else ""
    counted = re.search(r"^images=(\d+)\s*$", text, re.MULTILINE)
    if text.startswith("ImageJ=") and counted:
        return int(counted[1]) > 1
    return bool(re.match(r'\{"shape": .*"truncated": true', text))


def several_pages(name: str) -> UserError:
    """The error for a TIFF of several pages."""
    return UserError(f"{name}: holds several pages: save the one to fuse as its own file")


def left_out_channels(count: int) -> tuple[str, ...]:
    """What to say of channels beside the colours that are no transparency."""
    if count < 1:
        return ()
    which = "last channel, which is" if count == 1 else f"last {count} channels, which are"
    return (
        f"its {which} neither colour nor transparency, {'is' if count == 1 else 'are'} left out",
    )


def _tiff_pages(image: Image.Image) -> Iterator[bool]:
    """Whether each of a TIFF's first images is a page of its own."""
    for number in range(_TIFF_MOST_PAGES):  # a damaged file may have any number
        try:
            image.seek(number)
        except EOFError:
            break
        yield not _tiff_tags(image).get(_TIFF_SUBFILE, 0) & _TIFF_NOT_A_PAGE
    image.seek(0)


def eight_bit_rgb(image: Image.Image, notes: tuple[str, ...] = ()) -> Samples:
    """Returns an image of up to 8 bits per channel upright, in sRGB; changes `image`."""
    load_upright(image)
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    alpha = None
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        alpha = with_alpha.getchannel("A")
        profile = image.info.get("icc_profile")
        image = with_alpha.convert("L" if image.mode == "LA" else "RGB")
        image.info = {"icc_profile": profile} if profile else {}
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    cmyk = image.mode == "CMYK"
    image, converted = to_srgb8(image)
    notes += converted
    if cmyk and image.mode == "CMYK":
        notes += ("its CMYK colours are converted without a profile",)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is not None and alpha.getextrema() != (255, 255):
        image = Image.composite(image, Image.new("RGB", image.size), alpha)
        notes += (TRANSPARENT,)
    return Samples(np.array(image), notes=notes)


def deep_colour(
    values: np.ndarray, largest: int, icc: bytes | None, notes: tuple[str, ...], name: str
) -> Samples:
    """Returns samples of which `largest` is white, as 16 bits in sRGB.

    Args:
      values: uint16 (H, W), or (H, W, C) with 2 or 4 channels if the last one is alpha, or 3.
      largest: white.
      icc: the colour profile.
      notes: more to say.
      name: for messages.

    Raises:
      UserError: see `to_srgb16`.
    """
    if largest != _UINT16_MAX:
        values = np.rint(values.astype(np.float32) * np.float32(_UINT16_MAX / largest))
        values = values.astype(np.uint16)
    channels = 1 if values.ndim == 2 else values.shape[2]
    colour = values.reshape(*values.shape[:2], channels)[..., : 3 if channels > 2 else 1]
    if icc:
        colour, converted = to_srgb16(colour, icc, name)
        notes += converted
    if channels in (2, 4) and (alpha := values[..., -1:]).min() < _UINT16_MAX:
        colour = _times_alpha(colour, alpha)
        notes += (TRANSPARENT,)
    if colour.shape[2] == 1:
        colour = colour[..., 0]
    return Samples(np.ascontiguousarray(colour), full_range=True, notes=notes)


def turned_upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Returns samples (H, W, ...) as a viewer shows them, by their EXIF orientation."""
    return np.ascontiguousarray(_UPRIGHT.get(orientation, lambda x: x)(samples))


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


def _length_of(image: Image.Image) -> int:
    """The bytes of an opened image's file."""
    stream: Any = getattr(image, "fp", None)
    place = stream.tell()
    length = stream.seek(0, io.SEEK_END)
    stream.seek(place)
    return length


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
    if compression not in TIFF_COMPRESSIONS:
        raise refuse(f"compression {compression}")
    deep = max(bits) > 8
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB}
    if photometric not in (known if deep else known | {_PALETTE, _CMYK, _YCBCR}):
        raise refuse(f"colour space {photometric}" + (" in 16 bits" if deep else ""))
    if tags.get(_TIFF_PLANAR, 1) == 2 and compression not in ((1, 8, 32946) if deep else (1, 5, 8)):
        raise refuse(f"separate planes and compression {TIFF_COMPRESSIONS[compression]}")
    if tags.get(_TIFF_CHANNELS, 1) > 4:
        raise refuse(f"{tags[_TIFF_CHANNELS]} channels")
    return max(bits)


def _listed(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _deep_samples(image: Image.Image, name: str, notes: tuple[str, ...]) -> Samples:
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
        if is_tiff and orientation != 1:
            data = _without_orientation(data)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if decoded is None or decoded.dtype not in (np.uint16, np.float32):
            raise UserError(
                f"{name}: its {image.format} layout is not supported: save it again in 16 bits"
            )
        samples = decoded
        if samples.ndim == 3:  # from BGR
            samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        samples = (1 if samples.dtype == np.float32 else _UINT16_MAX) - samples
    alpha = None
    if samples.ndim == 3 and samples.shape[2] == 4:
        kind = tags.get(_TIFF_EXTRA, (_TIFF_ALPHA,))[0]
        alpha = samples[..., 3:] if kind == _TIFF_ALPHA else None
        notes += left_out_channels(int(kind == _TIFF_UNSPECIFIED))
        full = 1 if samples.dtype == np.float32 else _UINT16_MAX
        if kind == _TIFF_PREMULTIPLIED and samples[..., 3].min() < full:
            notes += (TRANSPARENT,)  # as the colours are
        samples = samples[..., :3]
    elif transparent is not None:
        where = samples == np.array(transparent)
        where = where.all(-1, keepdims=True) if samples.ndim == 3 else where
        samples = np.where(where, 0, samples)
        notes += (TRANSPARENT,) if where.any() else ()
    if is_tiff:
        full_range = set(tags.get(_TIFF_MAX_SAMPLE, ())) == {_UINT16_MAX}
    else:
        full_range = b"sBIT" in data[:_PNG_HEAD]
    icc = image.info.get("icc_profile")
    if icc and not grey and samples.dtype == np.uint16:
        samples, converted = to_srgb16(samples, icc, name)
        notes += converted
        full_range = full_range or bool(converted)  # a profile knows only that white
    if alpha is not None and alpha.min() < _UINT16_MAX:
        samples = _times_alpha(samples, alpha)
        notes += (TRANSPARENT,)
    if grey and samples.ndim == 3:
        samples = samples[..., 0]
    return Samples(turned_upright(samples, orientation), full_range, notes=notes)


def _without_orientation(data: bytes) -> bytes:
    """Returns a TIFF whose pixels OpenCV leaves as they are stored, whatever its flags say."""
    stream = io.BytesIO(data)
    with tifffile.TiffFile(stream) as file:
        page: Any = file.pages.first
        page.tags[int(ExifTags.Base.Orientation)].overwrite(1)
        return stream.getvalue()


def _times_alpha(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Puts uint16 (H, W, C) over black by (H, W, 1)."""
    return np.rint(colour * (alpha.astype(np.float64) / _UINT16_MAX)).astype(np.uint16)
