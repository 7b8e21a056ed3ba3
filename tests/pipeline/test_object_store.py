"""Training data in object stores: the stream of a local folder, few requests, nothing dropped."""

import contextlib
import hashlib
import json
import os
import shutil
import time

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.errors import EXIT_TEMPORARY, UserError, exit_code
from ditfuse_jax.images import write_image
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent, open_source
from ditfuse_jax.pipeline import shards as shards_module
from ditfuse_jax.pipeline.access import DataAccessError
from ditfuse_jax.pipeline.bad_records import BAD_RECORDS, RecentBadRecords, read_bad_records
from ditfuse_jax.pipeline.disk_cache import DiskCache
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.packer import FilePacker
from ditfuse_jax.pipeline.prepare import PackingTask, prepare, prepare_task, verify
from ditfuse_jax.prompts import Record, TextSlots, task_prompt, write_records
from ditfuse_jax.storage import retries

pytestmark = pytest.mark.processes  # the servers

SHAPES = ((32, 32), (24, 40), (40, 24))
COUNT = 11


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for k in range(COUNT):
        size = [(48, 80), (80, 48), (60, 60)][k % 3]
        write_image(folder / f"{k:02}.png", random.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def packed(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "p"
    prepare(str(photos), folder, shard_size=4, quiet=True)
    return folder


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    """No test uses what another one has read, or its outage."""
    monkeypatch.setattr(retries, "_last_reports", {})
    for name in ("_positions", "_names", "_sizes"):
        getattr(shards_module, name)._entries.clear()


def upload(store, folder):
    """Copies a folder into a new bucket, without the proxy; returns its address."""
    address = f"{store.bucket()}/data"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.write(f"{address}/{path.relative_to(folder)}", path.read_bytes())
    return address


def pipeline(source, **settings):
    encoder = ExampleEncoder(TextSlots(24, 12, 48))
    component = MixtureComponent(str(source), "m3")
    return DataPipeline([component], (32, 32), 4, 0, encoder, **settings)


def stream(source, count=4, start=0, **settings):
    """Returns a digest of each of some batches."""
    with contextlib.closing(pipeline(source, **settings).batches(start)) as batches:
        return [digest(next(batches)) for _ in range(count)]


def digest(batch):
    return hashlib.sha256(b"".join(batch[key].tobytes() for key in sorted(batch))).hexdigest()


class TestPackedData:
    """Records are read by ranges of bytes, in the order of a local folder."""

    @pytest.mark.parametrize("settings", [{}, {"buckets": SHAPES}, {"start": 3}])
    def test_the_stream_is_that_of_the_local_folder(self, store, packed, settings):
        assert stream(upload(store, packed), **settings) == stream(packed, **settings)

    def test_so_is_that_of_a_folder_of_an_earlier_version(
        self, gcs, packed, as_version_2, tmp_path
    ):
        older = shutil.copytree(packed, tmp_path / "older")
        as_version_2(older)
        address = upload(gcs, older)
        for settings in ({}, {"buckets": SHAPES}):
            assert stream(address, **settings) == stream(packed, **settings)

    @pytest.mark.medium
    def test_worker_processes_change_nothing(self, gcs, packed):
        assert stream(upload(gcs, packed), workers=1) == stream(packed)

    def test_a_record_is_one_request_after_one_for_its_shard(self, gcs, packed):
        address = upload(gcs, packed)
        source = PackedSource(as_path(address))
        # The manifest, and the names in the folder.
        assert gcs.proxy.counts() == {"read": 1, "list": 1}
        gcs.proxy.reset()
        for k in (*range(4), 1, 2):
            source.read(k)
        assert gcs.proxy.counts() == {"read": 1 + 6}
        source.read(4)
        assert gcs.proxy.counts() == {"read": 7 + 2}

    def test_names_and_sizes_of_a_shard_are_one_request(self, gcs, packed):
        source, local = PackedSource(as_path(upload(gcs, packed))), PackedSource(packed)
        gcs.proxy.reset()
        assert source.names[:4] == local.names[:4]
        assert gcs.proxy.counts() == {"read": 1}
        assert [source.size(k) for k in range(4)] == [local.size(k) for k in range(4)]
        assert gcs.proxy.counts() == {"read": 2}

    def test_the_examples_of_a_batch_are_read_at_the_same_time(self, gcs, packed):
        address = upload(gcs, packed)
        wait = 0.5
        gcs.proxy.decide = lambda request: wait if request.kind == "read" else None
        stream(address, 1)
        times = np.array([one.time for one in gcs.proxy.requests if one.kind == "read"])
        waiting = [((times <= now) & (now < times + wait)).sum() for now in times]
        assert max(waiting) >= 4  # of two batches of four

    def test_answers_503_and_lost_connections_are_waited_for(self, store, packed, capfd):
        address = upload(store, packed)
        # Before the folder is opened: records may be read ahead.
        store.proxy.fail_for(2, bucket=address.split("/")[2])
        source = pipeline(address)
        with contextlib.closing(source.batches()) as batches:
            found = [digest(next(batches)) for _ in range(8)]
        assert found == stream(packed, 8)
        lines = capfd.readouterr().err.splitlines()
        bucket = address.removesuffix("/data")  # threads of earlier tests may ask for others
        assert sum(bucket in line and "nothing is lost" in line for line in lines) == 1

    def test_a_store_that_stays_away_ends_the_run_and_no_record_is_counted_as_bad(
        self, gcs, packed, monkeypatch, tmp_path
    ):
        log = tmp_path / BAD_RECORDS
        monkeypatch.setattr(retries, "RETRY_SECONDS", 0.5)
        tolerant = pipeline(upload(gcs, packed), max_bad_fraction=1.0, log=log)
        examples = tolerant.examples()
        gcs.proxy.fail_for(60)
        with pytest.raises(DataAccessError, match=r"cannot be read \(the store failed for"):
            examples[0]
        assert not log.exists()

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_store_that_stays_away_is_no_bad_input_but_passes(
        self, gcs, packed, monkeypatch, workers
    ):
        monkeypatch.setattr(retries, "RETRY_SECONDS", 0.5)
        monkeypatch.setenv("DITFUSE_STORAGE_RETRY_SECONDS", "0.5")  # of a worker process
        source = pipeline(upload(gcs, packed), workers=workers)
        gcs.proxy.decide = lambda request: (
            (503, b"") if "-00000.arrayrecord" in request.url else None
        )
        with contextlib.closing(source.batches()) as batches, pytest.raises(UserError) as caught:
            next(batches)
        assert exit_code(caught.value) == EXIT_TEMPORARY

    @pytest.mark.parametrize("lost", ["shard-00001.arrayrecord", "shard-00001.arrayrecord.index"])
    def test_a_missing_object_is_named_when_the_folder_is_opened(self, gcs, packed, lost):
        folder = as_path(upload(gcs, packed))
        (folder / lost).unlink()
        with pytest.raises(UserError, match=f"{lost} is missing: pack the data again"):
            PackedSource(folder)

    def test_a_shard_of_another_packing_is_not_read(self, gcs, packed):
        address = upload(gcs, packed)
        shard = (packed / "shard-00001.arrayrecord").read_bytes()
        for other in (shard[: len(shard) - 65536], b"\0" * len(shard)):
            gcs.write(f"{address}/shard-00001.arrayrecord", other)
            with pytest.raises(DataAccessError, match="pack the data again"):
                PackedSource(as_path(address))[4]

    def test_a_damaged_record_is_bad_and_skipped_within_the_budget(self, gcs, packed, tmp_path):
        address, log = upload(gcs, packed), tmp_path / BAD_RECORDS
        path = packed / "shard-00000.arrayrecord"
        data = bytearray(path.read_bytes())
        data[20_000:20_064] = bytes(64)
        gcs.write(f"{address}/{path.name}", bytes(data))
        stream(address, 3, max_bad_fraction=0.1, log=log)
        (entry,) = read_bad_records(tmp_path)
        assert entry["record"] == "01" and "damaged" in entry["reason"]

    def test_verify_finds_what_was_changed(self, gcs, packed, capsys):
        address = upload(gcs, packed)
        assert main(["prepare", "--verify", address]) == 0
        gcs.write(f"{address}/shard-00002.arrayrecord.index", b"other")
        assert main(["prepare", "--verify", address]) == 1
        assert "2 of 3 shards are intact" in capsys.readouterr().out


class TestCache:
    """What was read is kept on a local disk, up to a limit."""

    def test_the_second_epoch_reads_nothing_from_the_store(self, store, packed, tmp_path):
        address, settings = upload(store, packed), {"cache": str(tmp_path / "c"), "cache_gib": 1.0}
        expected = stream(packed, 6)
        assert stream(address, 6, **settings) == expected
        shards_module._positions._entries.clear()
        store.proxy.reset()
        assert stream(address, 6, **settings) == expected
        assert store.proxy.counts().get("read", 0) <= 1  # the manifest

    def test_no_more_is_kept_than_the_limit_and_the_rest_is_read_again(self, gcs, packed, tmp_path):
        address = upload(gcs, packed)
        limit = 200_000
        source = PackedSource(as_path(address))
        source.keep_on_disk(DiskCache(tmp_path / "c", limit))
        expected = [image for (image,) in PackedSource(packed)]
        for _ in range(2):
            gcs.proxy.reset()
            for k, image in enumerate(expected):
                np.testing.assert_array_equal(source[k][0], image)
        assert 0 < gcs.proxy.counts()["read"] < COUNT
        used = sum(path.stat().st_blocks * 512 for path in (tmp_path / "c").iterdir())
        assert limit / 4 < used <= limit + 4 * 4096

    def test_a_damaged_copy_is_read_again_from_the_store(self, gcs, packed, tmp_path):
        source = PackedSource(as_path(upload(gcs, packed)))
        source.keep_on_disk(DiskCache(tmp_path / "c", 1 << 30))
        before = source[1][0]
        shards_module._positions._entries.clear()
        for path in (tmp_path / "c").glob("*.data"):
            path.write_bytes(bytes(path.stat().st_size))
        for _ in range(2):
            np.testing.assert_array_equal(source[1][0], before)
        gcs.proxy.reset()
        assert (source[1][0] == before).all() and not gcs.proxy.requests

    def test_a_cache_that_cannot_be_written_ends_nothing(self, gcs, packed, tmp_path, monkeypatch):
        source = PackedSource(as_path(upload(gcs, packed)))
        source.keep_on_disk(DiskCache(tmp_path / "c", 1 << 30))

        def full(*_):
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(os, "pwrite", full)
        np.testing.assert_array_equal(source[1][0], PackedSource(packed)[1][0])

    def test_a_cache_in_a_store_is_refused(self, gcs, packed):
        with pytest.raises(UserError, match="must be on a local disk"):
            pipeline(upload(gcs, packed), cache="gs://bucket/cache").examples()

    def test_a_recipe_sets_it(self, gcs, packed, tmp_path):
        from ditfuse_jax.train import load_recipe, resolve

        words = [
            f"--config.data.mixture.photos.source={upload(gcs, packed)}",
            "--config.data.crop=(32, 32)",
            "--config.data.batch_size=2",
            "--config.data.workers=0",
            f"--config.data.cache={tmp_path / 'c'}",
            "--config.data.cache_gib=0.5",
        ]
        with contextlib.closing(resolve(load_recipe("nano_m3", words)).data.batches()) as batches:
            next(batches)
        assert list((tmp_path / "c").glob("*.data"))


def contents(folder):
    return {path.name: path.read_bytes() for path in as_path(folder).iterdir()}


class TestPrepare:
    """Shards are copied to the store when they are complete."""

    def test_the_objects_are_the_files_of_a_local_folder(
        self, store, photos, packed, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        output = f"{store.bucket()}/packed"
        assert main(["prepare", str(photos), "-o", output, "--shard-size", "4"]) == 0
        assert contents(output) == contents(packed)
        assert not list(tmp_path.iterdir())  # no folder `gs:`

    def test_an_interrupted_run_packs_only_what_is_missing(self, store, photos, packed):
        output = f"{store.bucket()}/packed"
        failed = RuntimeError("killed")

        class Stops(FilePacker):
            def __call__(self, name, paths, labels):
                if name == "09":
                    raise failed
                return super().__call__(name, paths, labels)

        with pytest.raises(UserError, match="killed"):
            prepare(str(photos), output, Stops(), shard_size=4, quiet=True)
        before = contents(output)
        assert "shard-00001.arrayrecord" in before and "manifest.json" not in before
        store.proxy.reset()
        prepare(str(photos), output, shard_size=4, quiet=True)
        assert contents(output) == contents(packed)
        written = [r.url for r in store.proxy.requests if r.kind == "write"]
        assert not [url for url in written if "shard-00001" in url]

    def test_tasks_share_a_folder(self, gcs, photos, packed):
        output = f"{gcs.bucket()}/packed"
        done = [
            prepare_task(
                str(photos), output, FilePacker(), PackingTask(k, 3), shard_size=4, quiet=True
            )
            for k in (2, 0, 1)
        ]
        assert [manifest is None for manifest in done] == [True, True, False]
        assert contents(output) == contents(packed)
        assert verify(output, quiet=True)

    def test_an_outage_while_packing_is_waited_for(self, gcs, photos, packed):
        output = f"{gcs.bucket()}/packed"
        gcs.proxy.fail_for(2, kinds=("write",))
        prepare(str(photos), output, shard_size=4, quiet=True)
        assert contents(output) == contents(packed)

    def test_photographs_in_a_store_are_packed_and_none_is_skipped_in_an_outage(
        self, gcs, photos, packed, monkeypatch, tmp_path
    ):
        address = upload(gcs, photos)
        gcs.proxy.fail_for(2, kinds=("read",))
        prepare(address, tmp_path / "p", shard_size=4, quiet=True)
        shards = {n: d for n, d in contents(tmp_path / "p").items() if n.startswith("shard")}
        assert shards.items() <= contents(packed).items()
        monkeypatch.setattr(retries, "RETRY_SECONDS", 0.5)
        gcs.proxy.fail_for(60, kinds=("read",))
        with pytest.raises(DataAccessError, match="the store failed for"):
            prepare(address, tmp_path / "q", max_bad_fraction=1.0, quiet=True)

    @pytest.mark.parametrize("place", ["az://bucket/packed", "gcs://bucket/packed", "gs://"])
    def test_other_addresses_are_refused_before_anything_is_made(
        self, photos, place, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        assert main(["prepare", str(photos), "-o", place]) == 2
        error = capsys.readouterr().err
        assert place in error and error.count("\n") == 1
        assert not list(tmp_path.iterdir())

    def test_a_missing_bucket_is_one_line(self, gcs, photos, capsys):
        assert main(["prepare", str(photos), "-o", "gs://nowhere/packed"]) == 2
        error = capsys.readouterr().err
        assert "nowhere" in error and error.count("\n") == 1


class TestOtherSources:
    """Folders and lists in a store are listed once; what cannot be read there is refused."""

    @pytest.fixture
    def data(self, tmp_path):
        """All kinds of sources of files in one folder."""
        random = np.random.default_rng(0)
        for folder in ("photos", "s/image1", "s/image2", "l/images", "l/labels", "ir/a", "vi/a"):
            (tmp_path / "d" / folder).mkdir(parents=True)
            for name in "abc":
                image = random.integers(0, 12, (9, 8, 1), dtype=np.uint8).repeat(3, axis=2)
                write_image(tmp_path / f"d/{folder}/{name}.png", image)
        lines = "".join(f"vi/a/{name}.png,ir/a/{name}.png\n" for name in "abc")
        (tmp_path / "d" / "pairs.csv").write_text(lines)
        prompt = task_prompt("FUSION", None, "Fuse both.")
        records = [
            Record(prompt, (f"ir/a/{name}.png", f"vi/a/{name}.png"), f"photos/{name}.png")
            for name in "abc"
        ]
        write_records(tmp_path / "d" / "train.jsonl", records)
        return tmp_path / "d"

    @pytest.mark.parametrize(
        ("source", "requests"),
        [
            ("{}/photos", {"list": 3, "stat": 2}),
            ("{}/s", {"list": 5, "stat": 2}),
            ("labelled:{}/l", {"list": 2}),
            ("manifest:{}/pairs.csv", {"list": 2, "read": 1}),
            ("records:{}/train.jsonl", {"list": 3, "read": 1}),
            ("records:{0}/train.jsonl@{0}", {"list": 4, "stat": 2, "read": 1}),
        ],
    )
    def test_they_hold_the_images_of_the_local_ones(self, gcs, data, source, requests):
        address = upload(gcs, data)
        remote = open_source(source.format(address))
        counts = gcs.proxy.counts()
        assert all(counts.get(kind, 0) <= most for kind, most in requests.items()), counts
        assert set(counts) <= set(requests)
        local = open_source(source.format(data))
        assert list(remote.names) == list(local.names)
        for k in range(3):
            assert remote.size(k) == local.size(k)
            ours, theirs = remote[k], local[k]
            images = [getattr(one, "images", one) for one in (ours, theirs)]
            for one, other in zip(*images, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_a_missing_file_of_a_list_is_named(self, gcs, data):
        (data / "ir/a/b.png").unlink()
        address = upload(gcs, data)
        with pytest.raises(UserError, match=r"pairs\.csv line 2: .*ir/a/b\.png: no such file"):
            open_source(f"manifest:{address}/pairs.csv")
        with pytest.raises(UserError, match=r"train\.jsonl line 2 names .*b\.png, which is miss"):
            open_source(f"records:{address}/train.jsonl")

    def test_a_folder_that_is_not_there_is_refused(self, gcs):
        with pytest.raises(UserError, match="is neither a folder nor one of"):
            open_source(f"{gcs.bucket()}/nothing")

    def test_an_unpacked_data_set_is_listed_once(self, gcs, tmp_path):
        for role in ("ir", "vi"):
            (tmp_path / "RoadScene" / role).mkdir(parents=True)
            for name in ("FLIR_1", "FLIR_2"):
                image = np.full((6, 8, 3), 9, np.uint8)
                write_image(tmp_path / f"RoadScene/{role}/{name}.png", image)
        address = upload(gcs, tmp_path)
        remote = open_source(f"dataset:roadscene:partial@{address}")
        assert list(remote.names) == ["FLIR_1", "FLIR_2"]
        assert gcs.proxy.counts() == {"list": 1}
        assert (remote[1][0] == 9).all()

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("dataset:msrs@{}/MSRS.zip", "an archive in an object store is not read"),
            ("dataset:msrs@{}/nothing", "no msrs:train in it"),
            ("tfds:msrs@{}", "copy the prepared data set"),
        ],
    )
    def test_what_is_not_read_there_is_refused_in_a_line(self, gcs, source, message):
        with pytest.raises(UserError, match=message) as raised:
            open_source(source.format(f"{gcs.bucket()}/data"))
        assert "\n" not in str(raised.value)


def test_bad_records_of_a_run_in_a_store_are_logged_once_by_all_processes(gcs, packed, photos):
    broken = shutil.copytree(photos, photos.parent / "broken", dirs_exist_ok=True)
    (broken / "05.png").write_bytes(b"not an image")
    run = as_path(f"{gcs.bucket()}/run")
    for _ in range(2):
        stream(broken, 4, max_bad_fraction=0.2, log=run / BAD_RECORDS)
    (entry,) = read_bad_records(run)
    assert entry["record"] == "05"
    recent = RecentBadRecords(run)
    deadline = time.monotonic() + 20
    while recent.read() != [entry]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    gcs.proxy.reset()
    assert recent.read() == [entry] and not gcs.proxy.requests
    assert json.loads(json.dumps(entry)) == entry
