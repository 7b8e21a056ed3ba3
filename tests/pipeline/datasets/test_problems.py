"""Problems with the files of a data set are errors of one line; none is ignored."""

import logging

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_labels, write_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.pipeline.datasets import DATASETS, find_examples
from ditfuse_jax.pipeline.datasets.masks import class_numbers
from ditfuse_jax.pipeline.prepare import prepare


def message(raised):
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_a_missing_partner_is_named(make_archive, case):
    archive = make_archive(*case)
    if len(archive.dataset.inputs) == 1:
        pytest.skip("single photographs have no partners")
    split, role = archive.splits[0], archive.dataset.inputs[1]
    archive.files[split][role][1].unlink()
    name = find_examples(archive.dataset, archive.folder, split, partial=True)
    with pytest.raises(UserError) as raised:
        find_examples(archive.dataset, archive.folder, split)
    text = message(raised)
    assert str(archive.folder) in text and f"no {role} image for" in text
    assert f"{archive.dataset.name}:partial" in text and archive.dataset.download in text
    assert len(name) == 2


def test_a_wrong_count_is_an_error_unless_partial(make_archive, case, caplog):
    archive = make_archive(*case)
    split = archive.splits[0]
    for files in archive.files[split].values():
        files[-1].unlink()
    if archive.dataset.splits[split].count is None:
        assert len(open_source(archive.source(split))) == 2
        return
    with pytest.raises(UserError, match="2 examples instead of 3") as raised:
        open_source(archive.source(split))
    assert archive.dataset.download in message(raised)
    with caplog.at_level(logging.WARNING):
        assert len(open_source(archive.source(split, "partial"))) == 2
    assert "2 examples instead of 3" in caplog.text


def test_the_error_for_an_empty_folder_names_the_expected_files(make_archive, tmp_path):
    for name, dataset in DATASETS.items():
        empty = tmp_path / name
        empty.mkdir()
        with pytest.raises(UserError, match=r"looked for .*/.*to get it") as raised:
            find_examples(dataset, empty, next(iter(dataset.splits)))
        assert "{" not in message(raised)


def test_a_missing_place_or_other_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such folder or archive"):
        open_source(f"dataset:msrs@{tmp_path}/nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="neither a folder nor an archive"):
        open_source(f"dataset:msrs@{tmp_path}/notes.txt")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("dataset:nosuch@x", "data set 'nosuch' is unknown; choose from msrs, llvip"),
        ("dataset:msrs:dev@x", "'dev' is neither a split .train, test., nor roles .visible,inf"),
        ("dataset:msrs:visible,mask@x", "'visible,mask' is neither"),
        ("dataset:msrs", "name the folder or archive: dataset:msrs@PLACE"),
    ],
)
def test_an_invalid_source_is_refused(source, problem):
    with pytest.raises(UserError, match=problem):
        open_source(source)


def test_the_same_name_with_two_suffixes_is_ambiguous(make_archive):
    archive = make_archive("roadscene", 1, extra=("vi/FLIR_00002.png",))
    same = r"FLIR_00002\.\w+ and FLIR_00002\.\w+ are the same image of one example"
    with pytest.raises(UserError, match=same):
        open_source(archive.source())
    assert open_source(archive.source("partial")).names == ["FLIR_00001", "FLIR_00003"]


def test_a_missing_extra_is_an_error_only_if_it_is_selected(make_archive):
    archive = make_archive("msrs")
    archive.files["train"]["label"][0].unlink()
    assert len(open_source(archive.source("train"))) == 3
    with pytest.raises(UserError, match=r"no label image for 00001D \(1 of 3 lack it\)"):
        open_source(archive.source("train", "visible,label"))
    assert len(open_source(archive.source("train", "visible,label", "partial"))) == 2


def test_partners_of_different_sizes_are_named_and_not_packed(
    make_archive, tmp_path, skipped_items
):
    archive = make_archive("llvip")
    odd = archive.files["train"]["infrared"][1]
    write_image(odd.with_suffix(".png"), np.zeros((5, 8, 3), np.uint8))
    odd.with_suffix(".png").replace(odd)
    source = open_source(archive.source("train"))
    with pytest.raises(UserError, match=rf"is 8x6 but {odd} is 8x5"):
        source[1]
    prepare(archive.source("train"), tmp_path / "packed", max_bad_fraction=0.5, quiet=True)
    ((name, reason),) = skipped_items(tmp_path / "packed")
    assert name == "000002" and str(odd) in reason


def test_a_damaged_file_is_named_and_not_packed(make_archive, tmp_path):
    archive = make_archive("fmb")
    broken = archive.files["test"]["visible"][2]
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(UserError, match=f"{broken}: is damaged"):
        open_source(archive.source("test"))[2]
    with pytest.raises(UserError, match=f"1 of 3 records .*{broken}"):
        prepare(archive.source("test"), tmp_path / "packed", quiet=True)


def test_packed_records_hold_the_examples_of_the_data_set(make_archive, tmp_path):
    archive = make_archive("camvid")
    prepare(archive.source("val"), tmp_path / "packed", quiet=True)
    source, packed = open_source(archive.source("val")), open_source(str(tmp_path / "packed"))
    assert list(packed.names) == list(source.names)
    for one, other in zip(source, packed, strict=True):
        np.testing.assert_array_equal(one, other)


COLORS = next(x.label_colors for x in DATASETS["camvid"].layouts if x.label_colors)


def coloured(numbers):
    first = {number: color for color, number in reversed(COLORS.items())}
    return np.array([[first[number] for number in row] for row in numbers], np.uint8)


def test_colours_of_camvid_become_its_twelve_numbers(make_archive, tmp_path):
    random = np.random.default_rng(0)
    numbers = random.integers(0, 12, (6, 8), dtype=np.uint8)
    for name in ("0016E5_07959", "0016E5_08001"):
        for folder, suffix in (("701_StillsRaw_full", ""), ("LabeledApproved_full", "_L")):
            path = tmp_path / folder / f"{name}{suffix}.png"
            path.parent.mkdir(exist_ok=True)
            write_image(path, coloured(numbers))
    source = open_source(f"dataset:camvid:val:partial@{tmp_path}")
    assert source.names == ["0016E5_07959", "0016E5_08001"]
    np.testing.assert_array_equal(source[0][1], np.repeat(numbers[..., None], 3, axis=2))
    written = tmp_path / "LabeledApproved_full_classes" / "0016E5_07959_L.png"
    np.testing.assert_array_equal(read_labels(written)[..., 0], numbers)
    with pytest.raises(UserError, match="no camvid:test in it"):
        open_source(f"dataset:camvid:test:partial@{tmp_path}")


def test_every_colour_of_camvid_has_one_class():
    assert len(COLORS) == 32 and set(COLORS.values()) == set(range(12))


def test_a_few_stray_colours_are_void_and_many_are_another_table():
    image = coloured(np.zeros((20, 20), np.uint8))
    image[0, 0] = (1, 2, 3)
    numbers = class_numbers(image, COLORS, "m.png")
    assert numbers[0, 0] == 11 and not numbers.ravel()[1:].any()
    image[0] = (1, 2, 3)
    with pytest.raises(UserError, match=r"m\.png: 5% of the pixels have colours that no class has"):
        class_numbers(image, COLORS, "m.png")


def test_a_read_only_folder_is_an_error(make_archive, tmp_path):
    archive = make_archive("roadscene")
    packed = archive.zipped(tmp_path / "r.zip")
    (tmp_path / "r").write_text("in the way")
    with pytest.raises(UserError, match=r"r\.zip: cannot be unpacked .* unpack it yourself"):
        find_examples(archive.dataset, packed, "full")


def test_grey_masks_are_refused_as_colours(tmp_path):
    assert cv2.imwrite(str(tmp_path / "m.png"), np.full((4, 4), 7, np.uint8))
    with pytest.raises(UserError, match="100% of the pixels"):
        class_numbers(cv2.imread(str(tmp_path / "m.png")), COLORS, "m.png")
