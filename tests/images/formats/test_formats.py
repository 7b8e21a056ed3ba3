"""Each format and depth: written by one library, read by ours, and compared with a second one."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import IMAGE_SUFFIXES, decode_image, image_size, read_image
from ditfuse_jax.images.decode import decode_samples
from ditfuse_jax.images.formats import FORMATS, ImageFormat, OpenedFile, begins_with
from ditfuse_jax.images.samples import Samples

MATRIX_16 = 0.51 / 65535
ROW_8 = 0.51 / 255


def over_black(image):
    return image[..., :-1] * image[..., -1:]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("writer", ["imagecodecs", "opencv"])
def test_png_of_each_depth_and_channels(pictures, level, writer, channels, bits):
    codecs = pytest.importorskip("imagecodecs")
    values = pictures.whole(pictures.picture(channels), bits)
    if writer == "imagecodecs":
        data = codecs.png_encode(values)
    else:
        order = {1: [0], 2: None, 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        if order is None:
            pytest.skip("OpenCV writes no grey with alpha")
        data = cv2.imencode(".png", values if channels == 1 else values[..., order])[1].tobytes()
    np.testing.assert_array_equal(codecs.png_decode(data), values)  # the second decoder
    expected = values / (2**bits - 1)
    if channels in (2, 4):
        expected = over_black(expected)
        expected = expected[..., 0] if channels == 2 else expected
    assert level(data, expected) <= 0.6 / (2**bits - 1)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_agrees_with_a_second_decoder(pictures, encoded, mode, options):
    codecs = pytest.importorskip("imagecodecs")
    values = pictures.whole(pictures.picture(1 if mode == "L" else 3), 8)
    data = encoded(values, "JPEG", **options)
    second = codecs.jpeg8_decode(data)
    second = second if second.ndim == 3 else np.repeat(second[..., None], 3, axis=2)
    assert np.abs(decode_image(data, "x").astype(int) - second).max() <= 2


def test_jpeg_with_twelve_bits_is_refused(pictures):
    codecs = pytest.importorskip("imagecodecs")
    data = codecs.jpeg8_encode(pictures.whole(pictures.picture(), 12), bitspersample=12)
    with pytest.raises(UserError, match="x: "):
        decode_image(data, "x")


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4)])
def test_heic_with_8_bits(pictures, level, mode, channels):
    pillow_heif = pytest.importorskip("pillow_heif")
    values = pictures.whole(pictures.picture(channels), 8)
    data = heic(pillow_heif, values, mode)
    shown = values / 255
    assert level(data, over_black(shown) if channels == 4 else shown) <= 1.01 / 255


def heic(pillow_heif, values, mode, **options):
    size = (values.shape[1], values.shape[0])
    stream = io.BytesIO()
    file = pillow_heif.from_bytes(mode, size, np.ascontiguousarray(values).tobytes())
    file.save(stream, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return stream.getvalue()


def test_heic_keeps_its_ten_bits(pictures, level):
    pillow_heif = pytest.importorskip("pillow_heif")
    values = pictures.whole(pictures.picture(), 10)
    data = heic(pillow_heif, values << 6, "RGB;16")
    assert level(data, values / 1023) <= MATRIX_16


def test_heic_is_turned_upright(pictures, level, encoded, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    values = pictures.whole(pictures.picture(), 8)
    options = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    data = encoded(values, "HEIF", exif=exif.tobytes(), **options)
    assert level(data, np.rot90(values, -1) / 255) <= 1.01 / 255
    (tmp_path / "x.heic").write_bytes(data)
    assert image_size(tmp_path / "x.heic") == (pictures.WIDTH, pictures.HEIGHT)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [3, 4])
def test_avif_keeps_its_depth(pictures, level, channels, bits):
    codecs = pytest.importorskip("imagecodecs")
    values = pictures.whole(pictures.picture(channels), bits)
    data = codecs.avif_encode(values, level=100, bitspersample=bits)
    second = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert second is not None
    np.testing.assert_array_equal(second[..., [2, 1, 0, 3][:channels]], values)
    shown = values / (2**bits - 1)
    expected = over_black(shown) if channels == 4 else shown
    assert level(data, expected) <= (1.01 / 255 if bits == 8 else 1.6 / 65535)


def test_hdr_brightness_is_refused_by_name(pictures):
    codecs = pytest.importorskip("imagecodecs")
    values = pictures.whole(pictures.picture(), 10)
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        data = codecs.avif_encode(values, level=100, bitspersample=10, transfer=transfer)
        with pytest.raises(UserError, match=rf"x: has HDR brightness \({name}\): export it for"):
            decode_samples(data, "x")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_xl_of_each_depth(pictures, level, channels, bits):
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("pillow_jxl")
    values = pictures.whole(pictures.picture(channels), bits)
    data = codecs.jpegxl_encode(values, lossless=True)
    expected = values / (2**bits - 1)
    if bits == 16:  # which its writer declares to be linear light
        light = expected[..., :3] if channels > 1 else expected
        curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        expected = np.concatenate([curve, expected[..., 3:]], -1) if channels == 4 else curve
    expected = over_black(expected) if channels == 4 else expected
    assert level(data, expected) <= (1.01 / 255 if bits == 8 else 1e-3)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (40, 56), (77, 200), (90, 160), (1024, 1)])
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_is_read_from_its_header(size, container, tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("pillow_jxl")
    data = codecs.jpegxl_encode(np.zeros(size, np.uint8), lossless=True, usecontainer=container)
    (tmp_path / "x").write_bytes(data)
    assert image_size(tmp_path / "x") == size


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "HEIF"])
def test_of_several_frames_none_is_taken_silently(pictures, encoded, image_format):
    if image_format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    frames = [Image.fromarray(pictures.whole(pictures.picture(seed=seed), 8)) for seed in range(3)]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    with pytest.raises(
        UserError, match=r"x: holds (3|several) (frames|pages|images): save the one to fuse"
    ):
        decode_image(data, "x")


def test_a_gif_of_one_frame_is_read(pictures, encoded):
    paletted = Image.fromarray(pictures.whole(pictures.picture(), 8)).quantize(64)
    image = decode_image(encoded(paletted, "GIF"), "x")
    np.testing.assert_array_equal(image, np.asarray(paletted.convert("RGB")))


def openexr(channels, path, **header):
    library = pytest.importorskip("OpenEXR")
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage, **header}
    with library.File(header, channels) as file:
        file.write(str(path))
    return path.read_bytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_openexr_keeps_floats(pictures, tmp_path, channels, dtype):
    values = (pictures.picture(channels) * 5).astype(dtype)
    names = {1: "Y", 3: "RGB", 4: "RGBA"}[channels]
    data = openexr({names: values}, tmp_path / "x.exr")
    samples = decode_samples(data, "x")
    assert samples.linear == (channels > 1)
    expected = values[..., :3] if channels == 4 else values
    np.testing.assert_array_equal(samples.values, expected.astype(np.float32))
    assert image_size(tmp_path / "x.exr") == (pictures.HEIGHT, pictures.WIDTH)


def test_openexr_of_unknown_channels_names_them(pictures, tmp_path):
    plane = pictures.picture(1)
    data = openexr({"diffuse.R": plane, "depth.Z": plane}, tmp_path / "x.exr")
    with pytest.raises(UserError, match=r"x: has the channels depth\.Z, diffuse\.R: save R, G and"):
        decode_samples(data, "x")


def test_a_scene_brighter_than_white_is_not_clipped_but_needs_a_range(pictures, tmp_path):
    scene = pictures.picture() * 5
    openexr({"RGB": scene}, tmp_path / "x.exr")
    with pytest.raises(UserError, match=r"float samples up to .* name black and white as a range"):
        read_image(tmp_path / "x.exr")
    with pytest.raises(UserError, match="float samples up to"):
        read_image(tmp_path / "x.exr", value_range="full")
    image = read_image(tmp_path / "x.exr", value_range=(0, 5))
    light = scene / 5
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(image / 255 - curve).max() <= ROW_8


@pytest.mark.parametrize("packed", [False, True])
def test_radiance_agrees_with_its_definition(pictures, packed):
    scene = pictures.picture() * 50
    coded = pictures.rgbe(scene)
    if packed:  # OpenCV packs runs
        data = cv2.imencode(".hdr", np.ascontiguousarray(scene[..., ::-1]))[1].tobytes()
    else:
        head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {pictures.HEIGHT} +X {pictures.WIDTH}\n"
        data = head.encode() + coded.tobytes()
    samples = decode_samples(data, "x")
    largest = scene.max(axis=-1, keepdims=True)
    assert samples.linear and samples.values.shape == scene.shape
    assert (np.abs(samples.values - scene) <= largest / 100).all()


@pytest.mark.parametrize("cut", [1, 30, 300])
def test_a_truncated_radiance_file_is_refused(pictures, cut):
    scene = np.ascontiguousarray(pictures.picture())
    data = cv2.imencode(".hdr", scene)[1].tobytes()
    with pytest.raises(UserError, match="x: is damaged or truncated"):
        decode_samples(data[:-cut], "x")


UNSUPPORTED = {
    b"%PDF-1.7\n": "a PDF document: export the page as PNG",
    b"8BPS\0\1": "a Photoshop document",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"P6\n4 4\n255\n": "a Netpbm image",
    b"\x93NUMPY\1\0": "a NumPy array: save it as TIFF, or give the array from Python",
    b"\0\0\0\x18ftypmp42": "a video: save its frames as images",
    b"PK\3\4": "a ZIP archive: unpack it",
    b"<!DOCTYPE html><html>": "a web page: download the image itself",
    b"version https://git-lfs.github.com/spec/v1\n": "a pointer of Git LFS",
}


@pytest.mark.parametrize("head", UNSUPPORTED)
def test_a_kind_that_is_not_supported_is_named_with_what_to_do(head):
    with pytest.raises(UserError, match="is not an image of a supported format: it is ") as raised:
        decode_image(head + bytes(600), "x")
    assert UNSUPPORTED[head] in str(raised.value)


def test_an_extension_adds_a_format_with_one_function_and_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(FORMATS, "_entries", dict(FORMATS))

    def open_mine(data, name):
        return OpenedFile(
            (1, 2), lambda: Samples(np.frombuffer(data[4:], np.uint8).reshape(1, 2, 3))
        )

    FORMATS.register("mine", ImageFormat((".mine",), begins_with(b"MINE"), open_mine))
    path = tmp_path / "x.mine"
    path.write_bytes(b"MINE" + bytes(range(6)))
    np.testing.assert_array_equal(read_image(path).ravel(), range(6))
    assert image_size(path) == (1, 2) and ".mine" in IMAGE_SUFFIXES


@pytest.mark.parametrize(
    ("module", "data"),
    [
        ("OpenEXR", b"\x76\x2f\x31\x01" + bytes(100)),
        ("pydicom", bytes(128) + b"DICM" + bytes(100)),
        ("pillow_heif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)),
        ("imagecodecs", b"\xff\x0a" + bytes(100)),
        ("rawpy", b"FUJIFILMCCD-RAW " + bytes(100)),
    ],
)
def test_without_its_library_a_format_names_the_extra(monkeypatch, module, data):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UserError, match=r"x: .*pip install 'ditfuse-jax\[formats\]'"):
        decode_image(data, "x")
