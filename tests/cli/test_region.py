"""`ditfuse fuse --region`: a request in a part of the image."""

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image, read_metadata, write_image

pytestmark = pytest.mark.medium

# Without guidance the untrained model copies a source, whatever the prompt.
GUIDED = ("--guidance-scale", "3", "--image-guidance-scale", "2")
REQUEST = ("--prompt", "Much brighter, please.")


@pytest.fixture
def fuse(checkpoint, tmp_path):
    def run(*options, output="fused.png"):
        path = tmp_path / output
        command = ["fuse", *map(str, options), "-o", str(path), "--checkpoint", str(checkpoint)]
        return main([*command, *GUIDED]), path

    return run


def write_mask(path, size, rows):
    path.parent.mkdir(exist_ok=True)
    image = np.zeros((*size, 3), np.uint8)
    image[rows] = 255
    write_image(path, image)
    return path


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("tile", [0, 64])
def test_outside_the_mask_the_file_is_that_of_the_command_without_the_request(
    fuse, pair, tmp_path, tile, depth
):
    if tile:  # larger than a tile
        for path in pair:
            write_image(path, np.tile(read_image(path), (3, 2, 1)))
    size = read_image(pair[0]).shape[:2]
    mask = write_mask(tmp_path / "mask.png", size, slice(0, 20))
    options = ("--tile", tile, "--depth", depth, *pair)
    _, plain = fuse(*options, output="plain.png")
    _, asked = fuse(*options, *REQUEST, output="asked.png")
    code, limited = fuse(*options, *REQUEST, "--region", mask, "--feather", 3)
    assert code == 0
    images = [read_image(path, value_range="full") for path in (plain, asked, limited)]
    np.testing.assert_array_equal(images[2][20:], images[0][20:])
    np.testing.assert_array_equal(images[2][:16], images[1][:16])
    assert (images[0] != images[1])[:16].any()
    assert read_metadata(limited)["region"] == "mask.png"


def test_a_folder_takes_masks_by_name_and_lists_a_pair_without_one(fuse, stacks, tmp_path, capsys):
    write_mask(tmp_path / "masks" / "one.png", (32, 32), slice(0, 16))
    write_mask(tmp_path / "masks" / "two.png", (40, 24), slice(0, 20))
    options = (stacks, *REQUEST, "--region", tmp_path / "masks")
    code, folder = fuse(*options, output="out")
    assert code == 2
    assert sorted(path.name for path in folder.iterdir()) == ["one.png", "two.png"]
    assert "not fused: three: " in (text := capsys.readouterr().err) and "no mask named" in text
    # Again, only what is missing or has another mask is fused.
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_mask(tmp_path / "masks" / "two.png", (40, 24), slice(0, 10))
    write_mask(tmp_path / "masks" / "three.png", (32, 32), slice(0, 10))
    assert fuse(*options, output="out")[0] == 0
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert after["one.png"] == before["one.png"] and after["two.png"] > before["two.png"]


def test_a_border_or_a_region_without_effect_is_refused(refused, checkpoint, pair, tmp_path):
    command = ("fuse", *pair, "-o", tmp_path / "x.png", "--checkpoint", checkpoint)
    assert "give --region too" in refused(*command, "--feather", 2)
    mask = write_mask(tmp_path / "mask.png", (37, 53), slice(0, 9))
    assert "a region limits a request" in refused(*command, "--region", mask)
    assert "not taught to mark classes" in refused(*command, *REQUEST, "--region", "road")
    wrong = write_mask(tmp_path / "wrong.png", (37, 50), slice(0, 9))
    message = refused(*command, *REQUEST, "--region", wrong)
    assert message.endswith("wrong.png: the region is 50x37, but the images are 53x37")
    assert not (tmp_path / "x.png").exists()
