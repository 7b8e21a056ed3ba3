import io

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import decode_image
from ditfuse_jax.images.decode import decode_samples

pydicom = pytest.importorskip("pydicom")
dataset = pytest.importorskip("pydicom.dataset")
uid = pytest.importorskip("pydicom.uid")


def dicom(values, *, bits=16, photometric="MONOCHROME2", syntax=None, **attributes):
    """A DICOM file of unsigned or signed samples, (H, W) or (H, W, 3)."""
    file = dataset.Dataset()
    file.file_meta = dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax or uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file.SOPClassUID, file.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    file.Rows, file.Columns = values.shape[:2]
    file.SamplesPerPixel = 1 if values.ndim == 2 else 3
    if values.ndim == 3:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = photometric
    file.BitsAllocated = 8 * values.dtype.itemsize
    file.BitsStored, file.HighBit = bits, bits - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for name, value in attributes.items():
        setattr(file, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_deep_values_are_kept_in_their_own_unit(pictures, bits, signed):
    stored = pictures.whole(pictures.picture(1), bits - signed).astype("i2" if signed else "u2")
    data = dicom(stored, bits=bits, RescaleSlope="2", RescaleIntercept="-1024")
    samples = decode_samples(data, "x")
    np.testing.assert_array_equal(samples.values, stored.astype(np.float32) * 2 - 1024)


def test_bytes_are_an_eight_bit_image(pictures):
    stored = pictures.whole(pictures.picture(1), 8)
    image = decode_samples(dicom(stored, bits=8), "x").values
    np.testing.assert_array_equal(image, np.repeat(stored[..., None], 3, axis=2))


@pytest.mark.parametrize("bits", [8, 12])
def test_where_the_smallest_value_is_white_greys_are_inverted(pictures, bits):
    stored = pictures.whole(0.1 + 0.8 * pictures.picture(1), bits)  # without borders of 0
    plain = decode_image(dicom(stored, bits=bits), "x").astype(int)
    inverted = decode_image(dicom(stored, bits=bits, photometric="MONOCHROME1"), "x")
    assert np.abs(255 - plain - inverted).max() <= 1


def test_pixels_outside_of_the_measurement_are_black_and_leave_the_range_alone(pictures):
    stored = (pictures.whole(pictures.picture(1), 10) + 1000).astype(np.int16)
    padded = stored.copy()
    padded[:, :10] = -2000
    attributes = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    image = decode_image(dicom(padded, PixelPaddingValue=-2000, **attributes), "x")
    assert (image[:, :10] == 0).all() and image[:, 10:].std() > 40


def test_colours_and_run_lengths_are_read(pictures):
    values = pictures.whole(pictures.picture(), 8)
    data = dicom(values, bits=8, photometric="RGB")
    np.testing.assert_array_equal(decode_samples(data, "x").values, values)
    file = pydicom.dcmread(io.BytesIO(data))
    file.compress(uid.RLELossless)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file)
    np.testing.assert_array_equal(decode_samples(stream.getvalue(), "x").values, values)


def test_several_frames_are_refused_by_name(pictures):
    stored = pictures.whole(pictures.picture(1), 12)
    data = dicom(stored, bits=12, NumberOfFrames=3, PixelData=3 * stored.tobytes())
    with pytest.raises(UserError, match="x: holds 3 frames: save the one to fuse"):
        decode_samples(data, "x")


def test_a_file_without_an_image_and_an_unknown_compression_are_named(pictures):
    stored = pictures.whole(pictures.picture(1), 12)
    file = pydicom.dcmread(io.BytesIO(dicom(stored, bits=12)))
    del file.PixelData
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file)
    with pytest.raises(UserError, match="x: is a DICOM file without an image"):
        decode_samples(stream.getvalue(), "x")
    video = dicom(stored, bits=12)
    file = pydicom.dcmread(io.BytesIO(video))
    file.file_meta.TransferSyntaxUID = uid.MPEG4HP41
    file.PixelData = pydicom.encaps.encapsulate([b"0" * 100])
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file)
    with pytest.raises(UserError, match=r"x: its compression, MPEG.* is not supported"):
        decode_samples(stream.getvalue(), "x")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(pictures, share):
    data = dicom(pictures.whole(pictures.picture(1), 12), bits=12)
    with pytest.raises(UserError, match="x: is "):
        decode_samples(data[: int(share * len(data))], "x")


def test_a_table_of_values_is_inverted_where_the_smallest_is_white():
    stored = np.arange(16, dtype=np.uint16).reshape(4, 4)
    table = dataset.Dataset()
    table.add_new("LUTDescriptor", "US", [16, 0, 16])
    table.add_new("ModalityLUTType", "LO", "US")
    table.add_new("LUTData", "OW", (np.arange(16, dtype=np.uint16) ** 2).tobytes())
    plain, inverted = (
        decode_samples(dicom(stored, photometric=kind, ModalityLUTSequence=[table]), "x").values
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    np.testing.assert_array_equal(plain, stored.astype(np.float32) ** 2)
    np.testing.assert_array_equal(inverted, 65535 - plain)
