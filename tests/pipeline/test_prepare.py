"""Packed data: complete, equal to the files, and damage is detected."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import cv2
import msgpack
import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image, write_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.pipeline import prepare as module
from ditfuse_jax.pipeline.access import DataAccessError
from ditfuse_jax.pipeline.packed import PackedSource, pack_record
from ditfuse_jax.pipeline.packed_manifest import encode_index
from ditfuse_jax.pipeline.packer import FilePacker
from ditfuse_jax.pipeline.prepare import prepare, verify

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photos(tmp_path):
    """Eleven images: PNG and JPEG, grey and colour, of several sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for k in range(11):
        size = (20 + k, 40 - k) if k % 2 else (20 + k, 40 - k, 3)
        image = random.integers(0, 256, size, dtype=np.uint8)
        cv2.imwrite(str(folder / f"{k:02}.{'jpg' if k % 3 else 'png'}"), image)
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.glob("*.arrayrecord")}


def test_packed_records_hold_the_files(photos, tmp_path):
    manifest = prepare(str(photos), tmp_path / "packed", shard_size=4, quiet=True)
    assert [shard.records for shard in manifest.shards] == [4, 4, 3]
    files, packed = open_source(str(photos)), open_source(str(tmp_path / "packed"))
    assert isinstance(packed, PackedSource)
    assert list(packed.names) == list(files.names)
    assert (len(packed), packed.num_images) == (11, 1)
    for k in range(11):
        np.testing.assert_array_equal(packed[k][0], files[k][0])
    again = pickle.loads(pickle.dumps(packed))  # as data workers get it
    np.testing.assert_array_equal(again[10][0], files[10][0])


def test_a_file_whose_name_is_not_utf8_is_packed_under_its_name(photos, tmp_path, skipped_items):
    name = os.fsdecode(b"caf\xe9")
    (photos / "03.png").rename(photos / f"{name}.png")
    (photos / f"{name}2.png").write_bytes(b"not an image")
    prepare(str(photos), tmp_path / "packed", max_bad_fraction=0.5, quiet=True)
    files, packed = open_source(str(photos)), PackedSource(tmp_path / "packed")
    assert [*packed.names, f"{name}2"] == list(files.names)
    np.testing.assert_array_equal(packed[10][0], files[10][0])
    assert [skipped for skipped, _ in skipped_items(tmp_path / "packed")] == [f"{name}2"]


def test_names_in_utf8_are_stored_as_plain_msgpack():
    names = ["a", "caf\u00e9", "\u2028"]
    index = encode_index(names, [(1, 2)] * 3)
    packed_names = msgpack.packb(names)
    assert isinstance(packed_names, bytes)
    assert index == np.array([(1, 2)] * 3, "<u4").tobytes() + packed_names
    record = {"name": "caf\u00e9", "images": [b"1"]}
    assert pack_record("caf\u00e9", [b"1"]) == msgpack.packb(record)


@pytest.mark.processes
def test_two_processes_pack_the_same_bytes_as_one(photos, tmp_path):
    prepare(str(photos), tmp_path / "one", shard_size=3, quiet=True)
    prepare(str(photos), tmp_path / "two", shard_size=3, processes=2, quiet=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (tmp_path / "one" / "manifest.json").read_text() == (
        tmp_path / "two" / "manifest.json"
    ).read_text()


def test_stacks_and_labelled_scenes_stay_together(tmp_path):
    random = np.random.default_rng(0)
    for folder in ("stacks/image1", "stacks/image2", "street/images", "street/labels"):
        (tmp_path / folder).mkdir(parents=True)
        for name in "ab":
            values = random.integers(0, 12, (9, 8, 1), dtype=np.uint8).repeat(3, axis=2)
            write_image(tmp_path / folder / f"{name}.png", values)
    for source in (str(tmp_path / "stacks"), f"labelled:{tmp_path / 'street'}"):
        output = tmp_path / f"packed-{Path(source).name}"
        assert prepare(source, output, quiet=True).num_images == 2
        for ours, theirs in zip(open_source(str(output)), open_source(source), strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)


def test_long_images_are_downscaled_and_others_unchanged(photos, tmp_path):
    prepare(str(photos), tmp_path / "packed", FilePacker(max_side=35), quiet=True)
    packed = open_source(str(tmp_path / "packed"))
    for k, name in enumerate(packed.names):
        (path,) = photos.glob(f"{name}.*")
        before, after = read_image(path), packed[k][0]
        assert max(after.shape) == min(35, max(before.shape[:2]))
        if max(before.shape[:2]) <= 35:
            np.testing.assert_array_equal(after, before)


@pytest.mark.processes
def test_after_an_interruption_only_missing_shards_are_packed(photos, tmp_path, monkeypatch):
    output = tmp_path / "packed"
    code = (
        "import sys, time\n"
        "from ditfuse_jax.pipeline import prepare as module\n"
        "pack = module.pack_record\n"
        "module.pack_record = lambda *a: (time.sleep(0.15), pack(*a))[1]\n"
        f"module.prepare({str(photos)!r}, {str(output)!r}, shard_size=2, quiet=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while len(list(output.glob("*.arrayrecord"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = contents(output)
    assert not (output / "manifest.json").exists()
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        PackedSource(output)
    packed = []
    record = module.pack_record
    monkeypatch.setattr(module, "pack_record", lambda *a: packed.append(a) or record(*a))
    prepare(str(photos), output, shard_size=2, quiet=True)
    assert len(packed) == 11 - 2 * len(done)
    assert done.items() <= contents(output).items()
    assert verify(output, quiet=True)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_damaged_index_is_one_line_and_packing_again_repairs_it(photos, tmp_path, damage):
    prepare(str(photos), tmp_path / "p", quiet=True)
    index = tmp_path / "p/shard-00000.arrayrecord.index"
    before = index.read_bytes()
    index.write_bytes(damage(before))
    with pytest.raises(DataAccessError, match=r"\.index is damaged .*: delete it and pack again"):
        _ = PackedSource(tmp_path / "p").names[0]
    index.unlink()
    prepare(str(photos), tmp_path / "p", quiet=True)
    assert index.read_bytes() == before


def test_packing_again_says_that_sources_are_not_compared(photos, tmp_path, capsys):
    prepare(str(photos), tmp_path / "p", shard_size=4)
    assert "not checked" not in "".join(capsys.readouterr())
    prepare(str(photos), tmp_path / "p", shard_size=4)
    assert "3 of 3 shards are packed already; whether their source files have changed" in "".join(
        capsys.readouterr()
    )


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_verify_finds_the_damaged_shard_and_packing_again_repairs_it(
    photos, tmp_path, damage, capsys
):
    output = tmp_path / "packed"
    prepare(str(photos), output, shard_size=4, quiet=True)
    assert main(["prepare", "--verify", str(output)]) == 0
    before = contents(output)
    path = output / "shard-00001.arrayrecord"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    assert main(["prepare", "--verify", str(output)]) == 1
    message = capsys.readouterr().out
    assert "shard-00001.arrayrecord" in message
    assert "2 of 3 shards" in message
    path.unlink(missing_ok=True)
    prepare(str(photos), output, shard_size=4, quiet=True)
    assert contents(output) == before


class TestBadFiles:
    """Unreadable files are skipped, counted and reported, up to a limit."""

    @pytest.fixture
    def broken(self, photos):
        (photos / "05.jpg").write_bytes(b"not an image")
        return photos

    def test_up_to_the_limit_bad_files_are_skipped_and_reported(
        self, broken, tmp_path, skipped_items
    ):
        manifest = prepare(str(broken), tmp_path / "p", max_bad_fraction=0.1, quiet=True)
        ((name, reason),) = skipped_items(tmp_path / "p")
        assert [shard.skipped for shard in manifest.shards] == [1]
        assert name == "05"
        assert "05.jpg" in reason
        packed = open_source(str(tmp_path / "p"))
        assert len(packed) == 10
        assert "05" not in packed.names

    def test_an_interruption_after_a_repaired_shard_leaves_no_manifest_of_the_old_one(
        self, broken, tmp_path, monkeypatch
    ):
        prepare(str(broken), tmp_path / "p", max_bad_fraction=0.1, quiet=True)
        write_image(broken / "05.jpg", np.zeros((9, 9, 3), np.uint8))

        def interrupted(*_):
            raise KeyboardInterrupt

        publish = module.publish
        with monkeypatch.context() as patch:
            patch.setattr(module, "publish", lambda *a: (publish(*a), interrupted()))
            with pytest.raises(KeyboardInterrupt):
                prepare(str(broken), tmp_path / "p", quiet=True)
        with pytest.raises(UserError, match=r"manifest\.json is missing"):
            PackedSource(tmp_path / "p")
        assert prepare(str(broken), tmp_path / "p", quiet=True).records == 11
        assert verify(tmp_path / "p", quiet=True)

    def test_exactly_the_limit_is_accepted(self, broken, tmp_path):
        manifest = prepare(str(broken), tmp_path / "p", max_bad_fraction=1 / 11, quiet=True)
        assert [shard.skipped for shard in manifest.shards] == [1]

    def test_beyond_the_limit_packing_fails_and_continues_after_the_repair(self, broken, tmp_path):
        with pytest.raises(UserError, match=r"1 of 11 records .* more than 1\.0%: first 05"):
            prepare(str(broken), tmp_path / "p", quiet=True)
        assert not (tmp_path / "p" / "manifest.json").exists()
        write_image(broken / "05.jpg", np.zeros((9, 9, 3), np.uint8))
        prepare(str(broken), tmp_path / "p", quiet=True)
        assert len(open_source(str(tmp_path / "p"))) == 11


class TestRefused:
    """Errors of one line; nothing is overwritten."""

    def test_other_data_in_the_folder(self, photos, tmp_path):
        prepare(str(photos), tmp_path / "p", quiet=True)
        with pytest.raises(UserError, match="from another source or with other options"):
            prepare(str(photos), tmp_path / "p", FilePacker(max_side=20), quiet=True)

    def test_a_folder_with_something_else(self, photos):
        with pytest.raises(UserError, match="is not empty"):
            prepare(str(photos), photos, quiet=True)

    def test_packed_data(self, photos, tmp_path):
        prepare(str(photos), tmp_path / "p", quiet=True)
        with pytest.raises(UserError, match="packed already"):
            prepare(str(tmp_path / "p"), tmp_path / "q", quiet=True)

    @pytest.mark.parametrize("text", ["{", "{}", '{"version": 99}'])
    def test_a_damaged_manifest(self, photos, tmp_path, text):
        prepare(str(photos), tmp_path / "p", quiet=True)
        (tmp_path / "p" / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=r"manifest\.json"):
            open_source(str(tmp_path / "p"))

    @pytest.mark.parametrize(
        "words", [["--shard-size", "0"], ["--processes", "0"], ["--max-side", "3"]]
    )
    def test_impossible_numbers(self, photos, tmp_path, words, capsys):
        assert main(["prepare", str(photos), "-o", str(tmp_path / "p"), *words]) == 2
        assert words[0].lstrip("-").replace("-", "_") in capsys.readouterr().err


def test_a_run_trains_on_packed_data_as_on_the_files(photos, tmp_path):
    from ditfuse_jax.train import load_recipe, resolve

    prepare(str(photos), tmp_path / "packed", shard_size=4, quiet=True)
    batches = []
    for source in (photos, tmp_path / "packed"):
        words = [
            f"--config.data.mixture.photos.source={source}",
            "--config.data.crop=(16, 16)",
            "--config.data.batch_size=4",
        ]
        pipeline = resolve(load_recipe("nano_m3", words)).data.batches()
        batches.append(next(pipeline))
        pipeline.close()
    for name, value in batches[0].items():
        np.testing.assert_array_equal(value, batches[1][name], name)


def test_the_manifest_counts_records_and_bytes(photos, tmp_path):
    prepare(str(photos), tmp_path / "packed", shard_size=5, quiet=True)
    raw = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    assert raw["records"] == 11
    for shard in raw["shards"]:
        assert (tmp_path / "packed" / shard["file"]).stat().st_size == shard["bytes"]
