"""Packed folders are opened without reading anything about single records."""

import hashlib
import pickle

import numpy as np
import pytest

from ditfuse_jax.bench.packed import measure_opening, simulate
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent, open_source
from ditfuse_jax.pipeline.access import DataAccessError
from ditfuse_jax.pipeline.buckets import assign_buckets
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.prepare import prepare, verify
from ditfuse_jax.prompts import TextSlots

SHAPES = ((32, 32), (24, 40), (40, 24))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for k in range(11):
        size = [(48, 80), (80, 48), (60, 60)][k % 3]
        write_image(folder / f"{k:02}.png", random.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def packed(photos, tmp_path):
    prepare(str(photos), tmp_path / "packed", shard_size=4, quiet=True)
    return tmp_path / "packed"


def digest(batch):
    return hashlib.sha256(b"".join(batch[key].tobytes() for key in sorted(batch))).hexdigest()


def stream(source, count=6, **settings):
    """Returns the digest of each of the first batches."""
    pipeline = DataPipeline(
        [MixtureComponent(str(source), "m3")],
        (32, 32),
        4,
        0,
        ExampleEncoder(TextSlots(24, 12, 48)),
        **settings,
    )
    batches = pipeline.batches()
    try:
        return [digest(next(batches)) for _ in range(count)]
    finally:
        batches.close()


@pytest.mark.parametrize("buckets", [(), SHAPES])
def test_the_stream_is_that_of_the_files_and_of_an_older_folder(
    photos, packed, buckets, as_version_2
):
    expected = stream(photos, buckets=buckets)
    assert stream(packed, buckets=buckets) == expected
    as_version_2(packed)
    assert stream(packed, buckets=buckets) == expected


@pytest.mark.processes
def test_workers_read_an_older_folder_too(photos, packed, as_version_2):
    as_version_2(packed)
    assert stream(packed, 3, workers=1) == stream(photos, 3)


def test_records_have_their_names_and_sizes(photos, packed):
    source, files = open_source(str(packed)), open_source(str(photos))
    assert list(source.names) == list(files.names)
    assert source.names[-1] == "10" and source.names[3:6] == ["03", "04", "05"]
    assert [source.size(k) for k in range(11)] == [files.size(k) for k in range(11)]
    for index in (-1, 11):
        with pytest.raises(IndexError):
            source[index]


def test_an_older_folder_has_them_too_and_packing_again_brings_it_up_to_date(
    photos, packed, as_version_2
):
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    as_version_2(packed)
    source = open_source(str(packed))
    assert list(source.names) == list(open_source(str(photos)).names)
    assert source.size(1) == (80, 48)
    assert verify(packed, quiet=True)
    prepare(str(photos), packed, shard_size=4, quiet=True)
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before


def test_the_members_of_buckets_are_those_of_the_files(photos, packed):
    ours = assign_buckets(open_source(str(packed)), SHAPES)
    theirs = assign_buckets(open_source(str(photos)), SHAPES)
    assert [[members[k] for k in range(len(members))] for members in ours] == theirs
    again = pickle.loads(pickle.dumps(ours[1]))
    assert [again[k] for k in range(len(again))] == theirs[1]


@pytest.mark.parametrize("lost", ["shard-00001.arrayrecord", "shard-00001.arrayrecord.index"])
def test_a_missing_file_is_named_when_the_folder_is_opened(packed, lost):
    (packed / lost).unlink()
    with pytest.raises(UserError, match=f"{lost} is missing: pack the data again"):
        PackedSource(packed)


def test_a_shard_that_vanishes_while_it_is_used_ends_the_run_and_no_record_is_skipped(packed):
    component = MixtureComponent(str(packed), "m3")
    encoder = ExampleEncoder(TextSlots(24, 12, 48))
    pipeline = DataPipeline([component], (32, 32), 4, 0, encoder, max_bad_fraction=1.0)
    examples = pipeline.examples()
    for path in packed.glob("*.arrayrecord"):
        path.unlink()
    with pytest.raises(DataAccessError, match=r"arrayrecord cannot be read"):
        for k in range(11):
            examples[k]


def test_a_damaged_record_is_bad_and_within_the_budget_it_is_skipped(packed):
    path = packed / "shard-00000.arrayrecord"
    data = bytearray(path.read_bytes())
    data[20_000] ^= 1  # inside the second record
    path.write_bytes(data)
    source = open_source(str(packed))
    damaged = []
    for k in range(4):
        try:
            source[k]
        except DataAccessError:
            raise
        except UserError as error:
            assert "is damaged" in str(error)
            damaged.append(k)
    assert len(damaged) == 1
    assert len(stream(packed, 4, max_bad_fraction=0.2)) == 4


def test_verify_finds_a_changed_index(packed, capsys):
    path = packed / "shard-00001.arrayrecord.index"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert not verify(packed)
    assert "shard-00001.arrayrecord has an index that was changed" in capsys.readouterr().out


def test_what_is_held_and_sent_to_workers_does_not_grow_with_the_records(tmp_path):
    sizes = []
    for records in (10, 5000):
        folder = tmp_path / str(records)
        folder.mkdir()
        simulate(folder, 20, records)
        source = PackedSource(folder)
        assert len(source) == 20 * records
        assert source.name(15 * records) == "photograph-000000000000"
        assert source.size(3 * records) == source.size(0)
        members = assign_buckets(source, SHAPES)
        assert sum(map(len, members)) == len(source)
        sizes.append(len(pickle.dumps((source, members))))
    assert sizes[1] < 1.1 * sizes[0]


@pytest.mark.processes
@pytest.mark.medium
@pytest.mark.slow
def test_opening_many_shards_is_measured_in_processes_of_their_own(tmp_path):
    simulate(tmp_path, 500, 1000)
    measured = measure_opening(tmp_path, 1)
    assert measured.images == 500_000
    assert measured.seconds[0] < 5
    assert measured.facts["mib"] < 60 and measured.facts["worker_mib"] < 60
