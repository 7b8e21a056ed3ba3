"""DICOM images: the values of a CT in Hounsfield units, of other kinds in their own units."""

import io
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.formats.image_format import (
    ImageFormat,
    OpenedFile,
    begins_with,
    import_library,
)
from ditfuse_jax.images.samples import Samples

_GREY = ("MONOCHROME1", "MONOCHROME2")


def open_dicom(data: bytes, name: str) -> OpenedFile:
    """Reads the header of a DICOM file; see `ImageFormat`."""
    pydicom = import_library("pydicom", name)
    dataset = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset or "Rows" not in dataset:
        raise UserError(f"{name}: is a DICOM file without an image of whole numbers")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(f"{name}: holds {frames} frames: save the one to fuse as its own file")
    kind = str(dataset.get("PhotometricInterpretation", ""))

    def decode() -> Samples:
        values = _pixels(dataset, name)
        if kind in _GREY:
            return Samples(_measured(dataset, values, name, inverted=kind == "MONOCHROME1"))
        if values.ndim != 3 or values.shape[2] != 3:
            raise UserError(f"{name}: its colours ({kind}) are not supported: export it as PNG")
        if values.dtype == np.uint8:
            return Samples(np.ascontiguousarray(values))
        # White is the largest value that the stated bits hold.
        top = 65535 if kind == "PALETTE COLOR" else 2 ** int(dataset.BitsStored) - 1
        scaled = np.rint(values.astype(np.float32) * (65535 / top))
        return Samples(scaled.astype(np.uint16), full_range=True)

    return OpenedFile((int(dataset.Rows), int(dataset.Columns)), decode)


def _pixels(dataset: Any, name: str) -> np.ndarray:
    pixels = import_library("pydicom.pixels", name)
    try:
        values = pixels.pixel_array(dataset)
    except (RuntimeError, NotImplementedError) as error:  # no decoder for the compression
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise UserError(
            f"{name}: its compression, {syntax}, is not supported: save it uncompressed"
        ) from error
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, dataset)
    return values


def _measured(dataset: Any, stored: np.ndarray, name: str, *, inverted: bool) -> np.ndarray:
    """Grey values: uint8 RGB where they are bytes, else float32 in the file's units."""
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    slope = float(dataset.get("RescaleSlope", 1) or 1)
    offset = float(dataset.get("RescaleIntercept", 0) or 0)
    if "ModalityLUTSequence" in dataset:
        pixels = import_library("pydicom.pixels", name)
        values = np.asarray(pixels.apply_modality_lut(stored, dataset), np.float32)
        if inverted:
            entry_bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
            values = np.float32(2**entry_bits - 1) - values
        return values
    least, largest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if (bits, signed, slope, offset) == (8, False, 1, 0):
        grey = (largest - stored if inverted else stored).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    outside = _padding(dataset, stored)
    values = stored.astype(np.float32)
    if inverted:
        values = np.float32(least + largest) - values
    values = values * np.float32(slope) + np.float32(offset)
    values[outside] = np.nan  # becomes black, and does not count for the range
    return values


def _padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """(H, W) where a pixel lies outside of what was measured."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit", value)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


DICOM = ImageFormat((".dcm", ".dicom"), begins_with(b"DICM", at=128), open_dicom)
