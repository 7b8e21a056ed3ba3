import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import check_same_size, list_stacks, paired_files


def fill(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (2, 2)).save(folder / name)
    return folder


def test_pairs_match_by_stem_in_sorted_order_whatever_the_suffix(tmp_path):
    a = fill(tmp_path / "a", "2.png", "1.png", "x.y.png")
    b = fill(tmp_path / "b", "1.jpg", "2.bmp", "x.y.png")
    names = [(left.name, right.name) for left, right in paired_files(a, b)]
    assert names == [("1.png", "1.jpg"), ("2.png", "2.bmp"), ("x.y.png", "x.y.png")]


def test_three_folders_give_triples(tmp_path):
    folders = [fill(tmp_path / name, "1.png") for name in "abc"]
    assert paired_files(*folders) == [tuple(folder / "1.png" for folder in folders)]


@pytest.mark.parametrize("lacking_first", [True, False])
def test_a_missing_partner_is_named_with_the_folder_that_lacks_it(tmp_path, lacking_first):
    lacks = fill(tmp_path / "ir", "1.png")
    has = fill(tmp_path / "vi", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png")
    folders = (lacks, has) if lacking_first else (has, lacks)
    with pytest.raises(UserError, match=r"/ir: no image named 2, 3, 4 and 2 more"):
        paired_files(*folders)


def test_two_files_of_one_stem_are_ambiguous(tmp_path):
    a, b = fill(tmp_path / "a", "1.png", "1.jpg"), fill(tmp_path / "b", "1.png")
    with pytest.raises(UserError, match=r"/a: 1\.jpg and 1\.png"):
        paired_files(a, b)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_stacks_hold_one_file_of_each_numbered_folder(tmp_path, count):
    for number in range(1, count + 1):
        fill(tmp_path / f"image{number}", "a.png", "b.png")
    fill(tmp_path / "results", "unrelated.png")
    stacks = list_stacks(tmp_path)
    assert [stem for stem, _ in stacks] == ["a", "b"]
    for stem, paths in stacks:
        expected = [tmp_path / f"image{n}" / f"{stem}.png" for n in range(1, count + 1)]
        assert paths == expected


@pytest.mark.parametrize("numbers", [(), (1,), (1, 3), (2, 3), (0, 1), (1, 2, 3, 4, 5)])
def test_wrong_sets_of_numbered_folders_are_refused(tmp_path, numbers):
    for number in numbers:
        fill(tmp_path / f"image{number}", "a.png")
    with pytest.raises(UserError, match=f"{tmp_path}: needs 2 to 4 folders"):
        list_stacks(tmp_path)


def test_missing_stack_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        list_stacks(tmp_path / "nowhere")


def test_the_error_for_different_sizes_names_both_as_width_by_height():
    a, b = np.zeros((480, 640, 3), np.uint8), np.zeros((240, 320, 3), np.uint8)
    with pytest.raises(UserError, match=r"vi\.png is 640x480 but ir\.png is 320x240"):
        check_same_size([a, a, b], ["vi.png", "again.png", "ir.png"])


def test_equal_sizes_pass_whatever_the_channels():
    check_same_size([np.zeros((4, 5, 3)), np.zeros((4, 5))], ["a", "b"])
