"""Colours of a file become sRGB: ICC profiles are applied; HDR encodings are refused by name."""

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ditfuse_jax.errors import UserError
from ditfuse_jax.optional import import_optional

_GRID = 9  # colours per axis by which a profile is compared with sRGB
_SAME = 3  # levels of 255; profiles that differ less from sRGB are sRGB with another rounding
# Code points of ITU-T H.273.
_HDR = {16: "PQ", 18: "HLG"}
_SRGB_LIKE = {1, 2, 5, 6, 7}  # Rec. 709, unspecified, and Rec. 601, which is close
_PRIMARIES = {9: "Rec. 2020", 11: "DCI-P3", 12: "Display P3"}
_NOT_APPLIED = "its colour profile is damaged, or of other colours, and is not applied"


def encoding_notes(primaries: int, transfer: int, has_icc: bool, name: str) -> tuple[str, ...]:
    """Returns what to say of a file's colour encoding (code points of ITU-T H.273).

    Raises:
      UserError: HDR, whose values are no brightness on a normal screen.
    """
    if transfer in _HDR:
        raise UserError(
            f"{name}: has HDR brightness ({_HDR[transfer]}): export it for a normal screen (SDR)"
        )
    if has_icc or primaries in _SRGB_LIKE:
        return ()
    space = _PRIMARIES.get(primaries, f"primaries {primaries}")
    return (f"its colours are of {space}, without a profile, and are not converted to sRGB",)


def to_srgb8(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Converts an image of Pillow by its ICC profile.

    Args:
      image: of mode RGB, L or CMYK.

    Returns:
      The image, RGB if it was converted, else as it is; and what to say of it.
    """
    icc = image.info.get("icc_profile")
    if not icc or image.mode not in ("RGB", "L", "CMYK"):
        return image, ()
    description = _description(icc)
    try:
        if _is_srgb(icc, image.mode):
            return image, ()
        converted = _transform(icc, image.mode).apply(image)
    except ImageCms.PyCMSError:
        return image, (_NOT_APPLIED,)
    if image.mode == "L":  # equal channels, without rounding errors of each
        converted = converted.getchannel("G").convert("RGB")
    return converted, (_converted_from(description),)


def to_srgb16(values: np.ndarray, icc: bytes, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Converts uint16 (H, W, 1) or (H, W, 3) by an ICC profile, and says so.

    Raises:
      UserError: the library for 16 bits is not installed.
    """
    grey = values.shape[2] == 1
    try:
        if _is_srgb(icc, "L" if grey else "RGB"):
            return values, ()
    except ImageCms.PyCMSError:
        return values, (_NOT_APPLIED,)
    description = _description(icc)
    try:
        codecs: Any = import_optional("imagecodecs", "formats")
    except UserError as error:
        raise UserError(
            f"{name}: 16-bit colours of {description}: {error}, or save it as sRGB"
        ) from error
    converted = codecs.cms_transform(
        np.ascontiguousarray(values[..., 0] if grey else values),
        icc,
        _srgb_bytes(),
        colorspace="gray" if grey else "rgb",
        outcolorspace="rgb",
        intent=int(ImageCms.Intent.RELATIVE_COLORIMETRIC),
        flags=codecs.CMS.FLAGS.NOOPTIMIZE,  # else dark linear values are off by up to 4 %
    )
    converted = np.asarray(converted)
    return converted[..., 1:2] if grey else converted, (_converted_from(description),)


@functools.lru_cache(maxsize=32)
def _is_srgb(icc: bytes, mode: str) -> bool:
    if mode == "CMYK":
        return False
    if mode == "L":
        colours = np.arange(256, dtype=np.uint8)[None]
    else:
        levels = np.linspace(0, 255, _GRID).astype(np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(_transform(icc, mode).apply(Image.fromarray(colours))).astype(int)
    expected = colours if colours.ndim == 3 else colours[..., None]
    return bool(np.abs(converted - expected).max() <= _SAME)


@functools.lru_cache(maxsize=32)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":  # else dark values are off by up to 4 %; colours have an exact short way
        flags |= ImageCms.Flags.NOOPTIMIZE
    try:
        return ImageCms.buildTransform(
            io.BytesIO(icc),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=flags,
        )
    except (OSError, ValueError, TypeError) as error:
        raise ImageCms.PyCMSError(str(error)) from error


@functools.cache
def _srgb_bytes() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _converted_from(description: str) -> str:
    return f"its colours are converted from {description} to sRGB"


def _description(icc: bytes) -> str:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return " ".join(ImageCms.getProfileDescription(profile).split()) or "its profile"
    except Exception:  # a damaged profile
        return "its profile"
