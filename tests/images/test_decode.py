import io
import os
import threading

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import IMAGE_SUFFIXES, decode_image, image_size, list_images, read_image
from ditfuse_jax.images.formats import FORMATS

LOSSLESS = {".png": {}, ".bmp": {}, ".tif": {}, ".tiff": {}, ".webp": {"lossless": True}}


def picture(height=19, width=23, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, image_format, **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        stream, image_format, **options
    )
    return stream.getvalue()


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_colour_files_are_read_bitwise(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(picture()).save(path, **LOSSLESS[suffix])
    np.testing.assert_array_equal(read_image(path), picture())


def test_jpeg_agrees_with_opencv_decoder():
    data = encoded(picture(64, 48), "JPEG", quality=90)
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decode_image(data, "x").astype(int) - reference).max() <= 1


def test_the_suffix_of_a_name_does_not_matter(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(picture(), "PNG"))
    np.testing.assert_array_equal(read_image(path), picture())


def test_result_is_writable_contiguous_bytes():
    image = decode_image(encoded(picture(), "PNG"), "x")
    assert image.dtype == np.uint8 and image.flags.writeable and image.flags.c_contiguous


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP"])
def test_grey_becomes_three_equal_channels(image_format):
    grey = picture()[..., 0]
    image = decode_image(encoded(grey, image_format), "x")
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


def test_one_bit_images_are_black_and_white():
    bits = picture()[..., 0] > 127
    image = decode_image(encoded(Image.fromarray(bits), "PNG"), "x")
    np.testing.assert_array_equal(image[..., 1], np.where(bits, 255, 0))


def test_palette_colours_are_looked_up():
    paletted = Image.fromarray(picture()).quantize(64)
    image = decode_image(encoded(paletted, "PNG"), "x")
    np.testing.assert_array_equal(image, np.asarray(paletted.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_turn_black_and_opaque_ones_stay(mode):
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([200, 200, 200, 90, 90, 90])
        image.putdata([0, 1])
        data = encoded(image, "PNG", transparency=0)
    else:
        image = Image.fromarray(np.array([[[200] * 3 + [0], [90] * 3 + [255]]], np.uint8), "RGBA")
        data = encoded(image.convert(mode), "PNG")
    np.testing.assert_array_equal(decode_image(data, "x"), [[[0] * 3, [90] * 3]])


def test_half_transparent_pixels_are_composited_over_black():
    data = encoded(np.array([[[200, 100, 50, 128]]], np.uint8), "PNG")
    expected = np.array([200, 100, 50]) * 128 / 255
    assert np.abs(decode_image(data, "x")[0, 0] - expected).max() <= 1


def test_cmyk_is_converted():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    red = decode_image(encoded(cmyk, "JPEG", quality=95), "x")[8, 8]
    assert red[0] > 245 and red[1] < 10 and red[2] < 10


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_high_byte_in_grey_and_colour(suffix, channels):
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, channels), dtype=np.uint16)
    ok, data = cv2.imencode(suffix, values if channels == 3 else values[..., 0])
    image = decode_image(data.tobytes(), "x")
    expected = np.broadcast_to(values[..., ::-1] >> 8, (9, 7, 3))  # OpenCV writes BGR
    assert ok
    np.testing.assert_array_equal(image, expected)


def thermal_counts():
    """A scene of 14-bit counts around 8000, one very hot and one dead pixel."""
    counts = np.random.default_rng(0).normal(8000, 100, (64, 48)).astype(np.uint16)
    counts[3, 4], counts[5, 6] = 16383, 0
    return counts


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_counts_of_a_thermal_sensor_fill_the_greys_between_their_percentiles(suffix):
    counts = thermal_counts()
    image = decode_image(cv2.imencode(suffix, counts)[1].tobytes(), "x")
    assert (image == image[..., :1]).all()
    grey = image[..., 0]
    assert grey[3, 4] == 255 and grey[5, 6] == 0
    assert 0.002 < (grey == 0).mean() < 0.02 and 0.002 < (grey == 255).mean() < 0.02
    order = np.argsort(counts.ravel())
    assert (np.diff(grey.ravel()[order].astype(int)) >= 0).all()
    assert grey.std() > 40


@pytest.mark.parametrize("factor", [256, 257])
def test_dark_bytes_that_were_stored_in_sixteen_bits_stay_dark(factor):
    dark = np.random.default_rng(0).integers(0, 60, (9, 7), dtype=np.uint16)
    image = decode_image(cv2.imencode(".png", dark * factor)[1].tobytes(), "x")
    np.testing.assert_array_equal(image[..., 0], dark)


def test_flat_counts_are_flat():
    for value in (0, 8000):
        data = cv2.imencode(".png", np.full((4, 4), value, np.uint16))[1].tobytes()
        assert (decode_image(data, "x") == value >> 8).all()


def test_float_colours_are_refused_by_name():
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((4, 4, 3), np.float32), photometric="rgb")
    with pytest.raises(UserError, match=r"x\.tif: TIFF with float32 colours: save it with 8 or 16"):
        decode_image(stream.getvalue(), "x.tif")


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(image_format, orientation, tmp_path):
    # What a viewer must do to the stored rows, EXIF 2.32 table of orientations.
    shown = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: np.rot90(x, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(picture(), image_format, exif=exif, **options)
    np.testing.assert_array_equal(decode_image(data, "x"), shown(picture()))
    (tmp_path / "x").write_bytes(data)
    assert image_size(tmp_path / "x") == shown(picture()).shape[:2]


def test_damaged_exif_does_not_cost_the_image():
    data = encoded(picture(), "PNG", exif=b"Exif\0\0not a TIFF header at all")
    np.testing.assert_array_equal(decode_image(data, "x"), picture())


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged TIFF tags
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_file_truncated_at_any_byte_is_an_error_or_the_complete_image(image_format):
    image = cv2.GaussianBlur(picture(40, 40), (5, 5), 2)
    data = encoded(image, image_format)
    whole = decode_image(data, "x")
    refused = 0
    for length in range(1, len(data), 7):
        try:
            np.testing.assert_array_equal(decode_image(data[:length], "x"), whole)
        except UserError as error:
            assert str(error).startswith("x: ") and "\n" not in str(error)
            refused += 1
    assert refused >= 0.9 * len(range(1, len(data), 7))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged TIFF tags
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_flipped_bytes_raise_nothing_but_user_errors(image_format):
    data = encoded(picture(), image_format)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        for position in rng.integers(len(data), size=3):
            damaged[position] ^= int(rng.integers(1, 256))
        try:
            decode_image(bytes(damaged), "x", max_pixels=1_000_000)
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.symlink_to("gone.png"), "is a link to nothing"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (os.mkfifo, "is a pipe or a device: save the image as a file"),
        (lambda path: path.write_text("<html>404</html>"), "is not an image"),
        (lambda path: path.write_bytes(encoded(picture(), "PPM")), "is not an image"),
        (lambda path: path.write_bytes(encoded(picture(), "JPEG")[:-300]), "damaged or truncated"),
        (lambda path: path.write_bytes(encoded(picture(), "PNG")[:500]), "damaged or truncated"),
    ],
)
def test_a_bad_file_is_one_line_that_names_path_and_reason(tmp_path, make, reason):
    path = tmp_path / "bad.png"
    make(path)
    with pytest.raises(UserError) as raised:
        read_image(path)
    assert str(path) in str(raised.value) and reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_too_many_pixels_are_refused_from_the_header_alone():
    data = bytearray(encoded(picture(), "BMP"))
    data[18:26] = (20_000).to_bytes(4, "little") * 2  # width and height of the header
    with pytest.raises(UserError, match=r"big\.bmp: 20000x20000 pixels .* 200 megapixels"):
        decode_image(bytes(data), "big.bmp")


def test_pixel_limit_is_ours_also_where_pillows_is_lower(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(decode_image(encoded(picture(), "PNG"), "x"), picture())
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(UserError, match="limit"):
        decode_image(encoded(picture(19, 23), "PNG"), "x", max_pixels=19 * 23 - 1)


def test_threads_decode_side_by_side():
    data = [encoded(picture(seed=seed), "PNG") for seed in range(8)]
    limit, wrong = Image.MAX_IMAGE_PIXELS, []

    def decode(seed):
        for _ in range(20):
            if not np.array_equal(decode_image(data[seed], "x"), picture(seed=seed)):
                wrong.append(seed)

    threads = [threading.Thread(target=decode, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and limit == Image.MAX_IMAGE_PIXELS


def test_images_of_a_folder_are_sorted_and_nothing_else_is_listed(tmp_path):
    names = ["b.PNG", "a.jpeg", "c.tif", "_.webp"]
    for name in [*names, ".hidden.png", "notes.txt", "labels.npy"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == sorted(names)


def test_a_link_to_nothing_and_a_pipe_are_listed_and_refused_when_they_are_read(tmp_path):
    (tmp_path / "a.png").symlink_to("gone.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "folder.png").mkdir()
    link, pipe = list_images(tmp_path)
    for path, what in ((link, "is a link to nothing"), (pipe, "is a pipe or a device")):
        with pytest.raises(UserError, match=rf"{path.name}: {what}"):
            read_image(path)


def test_every_listed_suffix_is_of_a_format_of_pillow_or_of_our_own():
    Image.init()
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"} <= IMAGE_SUFFIXES
    own = {suffix for entry in FORMATS.values() for suffix in entry.suffixes}
    assert set(Image.EXTENSION) | own >= set(IMAGE_SUFFIXES)


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(UserError, match=rf"{tmp_path}: no images"):
        list_images(tmp_path)
