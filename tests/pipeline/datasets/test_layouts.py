"""Every data set is found in archives laid out like the official ones."""

import dataclasses
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image, read_labels
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.pipeline.datasets import DATASETS, LABEL, Layout, find_examples
from ditfuse_jax.pipeline.datasets.find import natural

SHARED = Path(__file__).parents[4] / "shared" / "data"


def read(role, path):
    return (read_labels if role == LABEL else read_image)(path)


def test_every_file_is_found_in_its_role(make_archive, case):
    archive = make_archive(*case)
    for split, roles in archive.files.items():
        examples = find_examples(archive.dataset, archive.folder, split)
        for role in roles:
            assert [example.files[role] for example in examples] == roles[role]
        names = [example.name for example in examples]
        assert len(set(names)) == len(names) and not any("/" in name for name in names)


def test_a_source_yields_the_inputs_in_order(make_archive, case):
    archive = make_archive(*case)
    for split in archive.splits:
        source = open_source(archive.source(split))
        assert source.num_images == len(archive.dataset.inputs)
        for k in range(len(source)):
            seen = [int(image[0, 0, 0]) for image in source[k]]
            assert seen == [archive.values(split, role)[k] for role in archive.dataset.inputs]


def test_the_zip_as_downloaded_serves_as_well_as_the_folder(make_archive, case, tmp_path):
    archive = make_archive(*case)
    packed = archive.zipped(tmp_path / "downloads.zip")
    for split in archive.splits:
        whole, zipped = (
            find_examples(archive.dataset, place, split) for place in (archive.folder, packed)
        )
        assert [e.name for e in zipped] == [e.name for e in whole]
        for one, other in zip(whole, zipped, strict=True):
            assert one.files.keys() == other.files.keys()
            for role in one.files:
                np.testing.assert_array_equal(
                    read(role, one.files[role]), read(role, other.files[role])
                )


def test_archives_inside_a_folder_are_unpacked_once(make_archive, tmp_path):
    archive = make_archive("msrs")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    packed = archive.zipped(downloads / "MSRS.zip")
    first = find_examples(archive.dataset, downloads, "test")
    packed.write_bytes(b"no longer an archive")
    assert find_examples(archive.dataset, downloads, "test") == first


def test_a_tar_is_unpacked_like_a_zip(make_archive, tmp_path):
    archive = make_archive("llvip")
    with tarfile.open(tmp_path / "LLVIP.tar.gz", "w:gz") as packed:
        packed.add(archive.folder / "LLVIP", "LLVIP")
    assert len(find_examples(archive.dataset, tmp_path / "LLVIP.tar.gz", "train")) == 3


def test_an_interrupted_unpacking_leaves_nothing_that_counts(make_archive, tmp_path):
    archive = make_archive("roadscene")
    packed = archive.zipped(tmp_path / "r.zip")
    packed.write_bytes(packed.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"r\.zip: is damaged or incomplete .* download it again"):
        find_examples(archive.dataset, packed, "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "r.zip"]


def test_an_unsupported_archive_is_an_error(make_archive, tmp_path):
    archive = make_archive("sice")
    rar = tmp_path / "Dataset_Part1.rar"
    rar.write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"unpack it yourself into .*Dataset_Part1"):
        find_examples(archive.dataset, rar, "part1")


def test_the_folder_of_one_split_is_enough(make_archive):
    archive = make_archive("msrs")
    found = find_examples(archive.dataset, archive.folder / "MSRS-main" / "train", "train")
    assert [e.files["visible"] for e in found] == archive.files["train"]["visible"]


@pytest.mark.parametrize("place", ["", "M3FD_Fusion"])
def test_splits_are_never_confused(make_archive, place):
    archive = make_archive("m3fd")
    shutil.rmtree(archive.folder / "M3FD_Detection")
    with pytest.raises(UserError, match="no m3fd:detection in it"):
        find_examples(archive.dataset, archive.folder / place, "detection", partial=True)


def test_the_ends_of_an_exposure_series_are_taken_by_number(make_archive):
    middle = tuple(f"Dataset_Part1/{k}/{frame}.JPG" for k in (1, 2, 3) for frame in (2, 3, 9))
    archive = make_archive("sice", extra=middle)
    found = find_examples(archive.dataset, archive.folder, "part1")
    assert [(e.files["under"].name, e.files["over"].name) for e in found] == [
        ("1.JPG", "10.JPG")
    ] * 3


def test_series_of_three_focuses_are_no_pairs_of_lytro(make_archive):
    triples = tuple(f"Lytro/Triple Series/lytro-0{k}-{x}.jpg" for k in (1, 2) for x in "ABC")
    archive = make_archive("lytro", extra=triples)
    found = find_examples(archive.dataset, archive.folder, "test")
    assert [e.files["a"] for e in found] == archive.files["test"]["a"]


def test_hidden_folders_and_other_files_are_ignored(make_archive):
    litter = ("__MACOSX/MSRS-main/train/vi/._00001D.png", ".trash/train/vi/9.png")
    archive = make_archive("msrs", extra=litter)
    (archive.folder / "MSRS-main/train/vi/Thumbs.db").write_bytes(b"x")
    assert len(find_examples(archive.dataset, archive.folder, "train")) == 3


def test_two_copies_are_ambiguous(make_archive):
    copies = tuple(f"copy/vi/{k}.jpg" for k in "123") + tuple(f"copy/ir/{k}.jpg" for k in "123")
    archive = make_archive("roadscene", 1, extra=copies)
    with pytest.raises(UserError, match=r"more than once .*name one of them"):
        find_examples(archive.dataset, archive.folder, "full")


def test_roles_are_chosen_by_name_in_the_order_named(make_archive):
    archive = make_archive("msrs")
    source = open_source(archive.source("test", "label,visible"))
    assert source.num_images == 2
    assert [int(image[0, 0, 0]) for image in source[1]] == [
        archive.values("test", role)[1] for role in ("label", "visible")
    ]


def test_every_recipe_names_its_source_its_licence_and_how_to_get_it():
    for name, dataset in DATASETS.items():
        assert name == dataset.name and name.islower()
        assert dataset.homepage.startswith("http")
        assert all((dataset.title, dataset.task, dataset.citation, dataset.licence))
        assert "http" in dataset.download or dataset.homepage in dataset.download
        for layout in dataset.layouts:
            assert set(dataset.inputs) <= layout.patterns.keys() <= set(dataset.roles)


def test_no_folder_belongs_to_two_splits():
    for dataset in DATASETS.values():
        folders = [f.lower() for split in dataset.splits for f in dataset.folders_of(split)]
        assert len(folders) == len(set(folders))


def test_no_split_has_a_name_that_tensorflow_datasets_or_a_source_needs():
    words = {"all", "partial"}
    for dataset in DATASETS.values():
        assert not words & dataset.splits.keys()
        assert not dataset.splits.keys() & set(dataset.roles)


def test_names_are_counted():
    assert sorted(["a10", "a2", "b1", "a2b"], key=natural) == ["a2", "a2b", "a10", "b1"]


@pytest.mark.parametrize(
    ("name", "split", "folder", "count"),
    [
        ("roadscene", "full", "ivif/roadscene_train", 171),
        ("roadscene", "full", "ivif/roadscene_dev", 25),
        ("tno", "full", "ivif/tno_dev", 21),
        ("lytro", "test", "mff/lytro_dev", 20),
        ("mefb", "test", "mef/mefb_dev", 8),
        ("harvard_ct", "full", "medical", 12),
        ("harvard_pet", "full", "medical", 12),
        ("harvard_spect", "full", "medical/spect-mri_dev", 12),
        ("camvid", "train", "seg", 367),
        ("camvid", "val", "seg", 101),
    ],
)
def test_real_copies_are_read(name, split, folder, count):
    place = SHARED / folder
    if not place.is_dir():
        pytest.skip(f"../shared/data/{folder} is absent")
    dataset = DATASETS[name]
    partial = dataset.splits[split].count not in (None, count)
    source = open_source(f"dataset:{name}:{split}{':partial' * partial}@{place}")
    assert len(source) == count
    for k in (0, count - 1):
        images = source[k]
        assert len(images) == 2 and images[0].shape == images[1].shape
    if LABEL in dataset.inputs:
        assert source[0][1].max() <= 11


def test_the_usual_split_of_camvid_follows_from_the_names_of_its_frames():
    place = SHARED / "seg"
    if not place.is_dir():
        pytest.skip("../shared/data/seg is absent")
    (split_of,) = [x.split_of for x in DATASETS["camvid"].layouts if x.split_of]
    for split in ("train", "val"):
        names = [path.stem for path in (place / f"camvid_{split}" / "images").iterdir()]
        assert {split_of(name) for name in names} == {split}
    for name in ("0001TP_008550", "0001TP_010380", "Seq05VD_f00000", "Seq05VD_f05100"):
        assert split_of(name) == "test"


def test_parts_of_a_pattern_match_as_documented(tmp_path):
    """`{number}` matches whole numbers, and `partial` only the complete examples."""
    dataset = dataclasses.replace(
        DATASETS["tno"], layouts=(Layout({"visible": "v{number}*", "infrared": "(x|i)*{number}"}),)
    )
    for name in ("v1", "v12r", "i_1", "x-12", "i112", "v7r2"):
        (tmp_path / f"{name}.png").write_bytes(b"")
    found = find_examples(dataset, tmp_path, "full", partial=True)
    assert [(e.name, e.files["infrared"].stem) for e in found] == [("1", "i_1"), ("12", "x-12")]


def test_only_archives_of_the_data_set_are_unpacked(make_archive, tmp_path):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    make_archive("coco_photos").zipped(downloads / "photos.zip")
    with zipfile.ZipFile(downloads / "annotations.zip", "w") as packed:
        packed.writestr("annotations/captions.json", "{}")
    assert len(open_source(f"dataset:coco_photos:val@{downloads}")) == 3
    assert sorted(path.name for path in downloads.iterdir()) == [
        "annotations.zip",
        "photos",
        "photos.zip",
    ]


def test_the_docs_list_every_data_set_with_its_splits_and_roles():
    rows = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text().splitlines()
    for name, dataset in DATASETS.items():
        (row,) = [row for row in rows if row.startswith("| `") and f"`{name}`" in row.split("|")[1]]
        _, _, _, splits, roles, *_ = row.split("|")
        message = ", ".join(f"{s} ({split.count or 'any'})" for s, split in dataset.splits.items())
        assert splits.strip() == message
        assert all(role in roles for role in dataset.roles)
