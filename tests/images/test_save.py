import os

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image, read_metadata, read_stack, write_image

METADATA = {"prompt": "fuse <img> & keep “edges” – 保留红外目标 🌙\nsecond line", "seed": "7"}


def picture(height=31, width=17):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 2)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".tif", ".tiff", ".bmp"])
def test_lossless_formats_round_trip_bitwise(tmp_path, suffix):
    path = tmp_path / f"fused{suffix}"
    write_image(path, picture(), METADATA)
    np.testing.assert_array_equal(read_image(path), picture())


@pytest.mark.parametrize("channels", [1, 3])
def test_quick_png_files_hold_the_same_pixels_and_metadata_in_little_more_room(tmp_path, channels):
    large = picture(240, 320)
    image = np.repeat(large[..., :channels], 3 // channels, axis=2)
    for name, quick in (("usual.png", False), ("quick.png", True)):
        write_image(tmp_path / name, image, METADATA, quick=quick)
    np.testing.assert_array_equal(read_image(tmp_path / "quick.png"), image)
    assert read_metadata(tmp_path / "quick.png") == METADATA
    usual, quick = ((tmp_path / name).stat().st_size for name in ("usual.png", "quick.png"))
    assert quick != usual and quick < 1.2 * usual


def deep_picture(white=65535):
    return np.random.default_rng(0).integers(0, white + 1, (31, 17, 3), dtype=np.uint16)


@pytest.mark.parametrize("white", [65535, 3000])  # dark pictures stay dark
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_sixteen_bits_are_written_and_read_bit_by_bit(tmp_path, suffix, white):
    path = tmp_path / f"fused{suffix}"
    write_image(path, deep_picture(white), METADATA)
    np.testing.assert_array_equal(read_stack([path], depth=None)[0], deep_picture(white))
    np.testing.assert_array_equal(read_image(path), deep_picture(white) >> 8)
    assert read_metadata(path).items() >= METADATA.items()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_decoders_read_the_sixteen_bits(tmp_path, suffix):
    path = tmp_path / f"fused{suffix}"
    write_image(path, deep_picture(), METADATA)
    decoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    np.testing.assert_array_equal(decoded[..., ::-1], deep_picture())
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(path), deep_picture())
    with Image.open(path) as image:
        image.verify()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_formats_of_eight_bits_refuse_sixteen_by_name(tmp_path, suffix):
    with pytest.raises(UserError, match=r"8 bits per channel: use \.png or \.tif"):
        write_image(tmp_path / f"fused{suffix}", deep_picture())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_keeps_colour_detail_of_single_pixels(tmp_path, suffix):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200  # red and blue columns: chroma detail only
    write_image(tmp_path / f"fused{suffix}", stripes)
    assert np.abs(read_image(tmp_path / f"fused{suffix}").astype(int) - stripes).max() < 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_metadata_in_any_script_are_read_as_written(tmp_path, suffix):
    path = tmp_path / f"fused{suffix}"
    write_image(path, picture(), METADATA)
    assert read_metadata(path) == METADATA


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_files_without_metadata_have_none(tmp_path, suffix):
    path = tmp_path / f"fused{suffix}"
    write_image(path, picture())
    assert read_metadata(path) == {}


def test_descriptions_by_other_programs_are_not_ours(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a holiday picture"
    Image.fromarray(picture()).save(tmp_path / "photo.jpg", exif=exif)
    assert read_metadata(tmp_path / "photo.jpg") == {}


def test_a_written_image_replaces_an_older_one_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "fused.png"
    write_image(path, np.zeros_like(picture()))
    write_image(path, picture())
    assert os.listdir(tmp_path) == ["fused.png"]
    np.testing.assert_array_equal(read_image(path), picture())


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    write_image(tmp_path / "fused.png", picture())
    (tmp_path / "other").touch()
    assert (tmp_path / "fused.png").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_full_disk_leaves_the_older_file_and_no_rest(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "fused.bmp"
    write_image(path, picture())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:  # writing beyond 100 bytes now fails, as on a full disk
        with pytest.raises(UserError) as raised:
            write_image(path, np.zeros((200, 200, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{path}: cannot be written (" in str(raised.value)
    assert os.listdir(tmp_path) == ["fused.bmp"]
    np.testing.assert_array_equal(read_image(path), picture())


def test_missing_folders_and_folders_in_the_way_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/fused\.png: cannot be written \(No such file"):
        write_image(tmp_path / "nowhere" / "fused.png", picture())
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(UserError, match=r"taken\.png: cannot be written"):
        write_image(tmp_path / "taken.png", picture())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/fused\.png: cannot be written"):
        write_image(tmp_path / "file" / "fused.png", picture())
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_unwritable_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"fused\.png: cannot be written \(Permission denied"):
        write_image(tmp_path / "fused.png", picture())


@pytest.mark.parametrize("name", ["fused", "fused.gif", "fused.png.txt"])
def test_unknown_suffixes_are_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(UserError, match=r"known: \.png \.jpg"):
        write_image(tmp_path / name, picture())


def test_what_a_format_cannot_hold_is_an_error_and_no_file(tmp_path):
    with pytest.raises(UserError, match=r"long\.jpg: cannot be encoded"):
        write_image(tmp_path / "long.jpg", picture(), {"prompt": "x" * 70_000})
    with pytest.raises(UserError, match=r"wide\.webp: cannot be encoded"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 20_000, 3), np.uint8))
    assert os.listdir(tmp_path) == []


def test_float_images_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"fused\.png: expected a uint8 or uint16 array"):
        write_image(tmp_path / "fused.png", picture().astype(np.float32))


def test_metadata_of_a_damaged_file_are_an_error(tmp_path):
    write_image(tmp_path / "fused.png", picture(), METADATA)
    (tmp_path / "cut.png").write_bytes((tmp_path / "fused.png").read_bytes()[:400])
    with pytest.raises(UserError, match=r"cut\.png: is damaged"):
        read_metadata(tmp_path / "cut.png")
