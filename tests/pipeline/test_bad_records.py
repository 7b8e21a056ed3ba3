"""Unusable files: skipped, logged and counted; too many are an error."""

import dataclasses
import json
import os

import numpy as np
import pytest

from ditfuse_jax.degrade import DEGRADATIONS
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent, fixed_batch
from ditfuse_jax.pipeline import bad_records as module
from ditfuse_jax.pipeline.bad_records import BAD_RECORDS, BadRecordBudget, read_bad_records
from ditfuse_jax.prompts import TextSlots
from ditfuse_jax.tasks import TASKS, Example

COUNT = 12


@pytest.fixture
def folder(tmp_path):
    """Twelve flat images of different greys; two files are damaged."""
    for i in range(COUNT):
        write_image(tmp_path / f"photos/{i:02}.png", np.full((32, 32, 3), 20 * i, np.uint8))
    (tmp_path / "photos/04.png").write_bytes(b"")
    data = (tmp_path / "photos/05.png").read_bytes()
    (tmp_path / "photos/05.png").write_bytes(data[: len(data) // 2])
    return tmp_path


@pytest.fixture(autouse=True)
def make_folder(tmp_path):
    (tmp_path / "photos").mkdir()


@pytest.fixture
def pipeline(folder):
    parts = [MixtureComponent(str(folder / "photos"), "m3")]
    log = folder / BAD_RECORDS
    tolerant = {"max_bad_fraction": 0.2, "log": log}
    return DataPipeline(parts, (32, 32), 4, 0, ExampleEncoder(TextSlots(24, 12, 48)), **tolerant)


def greys(batch):
    return [int(target.mean()) for target in batch["target"]]


def take(batches, count):
    found = [next(batches) for _ in range(count)]
    batches.close()
    return found


def test_every_good_picture_is_seen_and_the_bad_ones_are_replaced(pipeline):
    seen = [grey for batch in take(pipeline.batches(), 3) for grey in greys(batch)]
    assert sorted(set(seen)) == [20 * i for i in range(COUNT) if i not in (4, 5)]
    # The next good record replaces the two.
    assert seen.count(120) == 3


def test_bad_pictures_change_no_other_example(pipeline, folder):
    with_bad = take(pipeline.batches(), 3)
    for i in (4, 5):
        write_image(folder / f"photos/{i:02}.png", np.full((32, 32, 3), 20 * i, np.uint8))
    mended = take(pipeline.batches(), 3)
    for one, other in zip(with_bad, mended, strict=True):
        for k, (grey, true) in enumerate(zip(greys(one), greys(other), strict=True)):
            if true not in (80, 100):
                assert grey == true
                np.testing.assert_array_equal(one["images"][k], other["images"][k])


@pytest.mark.processes
def test_hosts_and_workers_agree_on_the_replacements(pipeline):
    whole = take(pipeline.batches(), 3)
    halves = [take(pipeline.batches(host=h, num_hosts=2), 3) for h in (0, 1)]
    worked = take(dataclasses.replace(pipeline, workers=2).batches(), 3)
    for step, batch in enumerate(whole):
        assert greys(worked[step]) == greys(batch)
        assert greys(halves[0][step]) + greys(halves[1][step]) == greys(batch)


@pytest.mark.parametrize(
    "workers", [0, pytest.param(2, marks=[pytest.mark.processes, pytest.mark.slow])]
)
def test_the_log_names_each_bad_file_once(pipeline, folder, workers):
    for _ in range(2):  # a restart does not repeat them
        take(dataclasses.replace(pipeline, workers=workers).batches(), 6)
    found = {record["record"]: record for record in read_bad_records(folder)}
    assert sorted(found) == ["04", "05"]
    if not workers:  # two workers may find the same file at the same moment
        assert len(read_bad_records(folder)) == 2
    assert "0 bytes" in found["04"]["reason"]
    assert found["05"]["source"] == str(folder / "photos")


def test_one_too_many_is_an_error_with_counts_and_a_name(pipeline):
    strict = dataclasses.replace(pipeline, max_bad_fraction=0.1)
    with pytest.raises(UserError, match=r"2 of 12 records of .*photos .* 10\.00%: first 0[45] \("):
        fixed_batch(strict, 12)


def test_if_none_is_allowed_the_file_s_error_is_raised(pipeline):
    with pytest.raises(UserError, match=r"0[45]\.png: is"):
        fixed_batch(dataclasses.replace(pipeline, max_bad_fraction=0.0, log=None), 12)


def test_a_source_without_usable_records_is_an_error(pipeline, folder):
    for path in (folder / "photos").iterdir():
        path.write_bytes(b"?")
    with pytest.raises(UserError, match="holds no usable record"):
        fixed_batch(dataclasses.replace(pipeline, max_bad_fraction=1.0), 1)


def test_pairs_of_different_size_count_as_bad(folder):
    for side in (1, 2):
        for i in range(4):
            size = (24, 32, 3) if (side, i) == (2, 1) else (32, 32, 3)
            (folder / f"stacks/image{side}").mkdir(parents=True, exist_ok=True)
            write_image(folder / f"stacks/image{side}/{i}.png", np.full(size, 9, np.uint8))
    parts = [MixtureComponent(str(folder / "stacks"), "ivif")]
    encoder = ExampleEncoder(TextSlots(24, 12, 48))
    tolerant = {"max_bad_fraction": 0.5, "log": folder / BAD_RECORDS}
    fixed_batch(DataPipeline(parts, (32, 32), 4, 0, encoder, **tolerant), 8)
    (record,) = read_bad_records(folder)
    assert record["record"] == "1"
    assert "32x32" in record["reason"] and "32x24" in record["reason"]


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_a_damaged_file_whose_name_is_not_utf8_is_skipped_and_logged(pipeline, folder):
    (folder / "photos" / f"{NOT_UTF8}.png").write_bytes(b"")
    take(dataclasses.replace(pipeline, max_bad_fraction=0.3).batches(), 4)
    assert {entry["record"] for entry in read_bad_records(folder)} == {"04", "05", NOT_UTF8}


class TestLog:
    """The log holds one whole line per record, whatever happens to it."""

    @pytest.fixture
    def log(self, tmp_path):
        def add(*names, reason="is damaged"):
            budget = BadRecordBudget("photos", 100, 1.0, tmp_path / BAD_RECORDS)
            for name in names:
                budget.add(name, UserError(reason))
            return [entry["record"] for entry in read_bad_records(tmp_path)]

        return add

    @pytest.mark.parametrize("name", ["a\u0085b", "a\u2028b", "a\nb", "caf\u00e9", NOT_UTF8])
    def test_a_name_may_hold_any_character(self, log, tmp_path, name):
        assert log(name, "b", name) == [name, "b"]
        assert log(name) == [name, "b"]  # after a restart
        (entry, _) = read_bad_records(tmp_path)
        assert entry == {"source": "photos", "record": name, "reason": "is damaged"}

    def test_lines_of_earlier_versions_are_known(self, log, tmp_path):
        entry = {"source": "photos", "record": "caf\u00e9", "reason": "is damaged"}
        (tmp_path / BAD_RECORDS).write_text(json.dumps(entry, ensure_ascii=False) + "\n", "utf-8")
        assert log("caf\u00e9") == ["caf\u00e9"]

    def test_half_a_line_is_left_out_with_one_warning(self, log, tmp_path, caplog):
        log("a")
        with (tmp_path / BAD_RECORDS).open("ab") as file:
            file.write(b'{"source": "photos", "rec\xff')
        assert log("b") == ["a", "b"]
        assert log("c") == ["a", "b", "c"]
        (warning,) = caplog.messages
        assert warning == f"{tmp_path / BAD_RECORDS}: 1 damaged lines are left out"

    def test_a_full_disk_leaves_no_half_line(self, log, tmp_path, monkeypatch, caplog):
        log("a")
        before = (tmp_path / BAD_RECORDS).read_bytes()
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "write", lambda file, data: write(file, data[:10]))
            assert log("b") == ["a"]
        assert (tmp_path / BAD_RECORDS).read_bytes() == before
        assert "not logged" in caplog.text and "No space left on device" in caplog.text
        assert log("b") == ["a", "b"]


def test_a_prompt_that_does_not_fit_is_not_a_bad_record(pipeline):
    tight = dataclasses.replace(pipeline, encoder=ExampleEncoder(TextSlots(4, 2, 2)))
    with pytest.raises(UserError, match="more than the limit of 4"):
        fixed_batch(tight, 1)


def test_a_degradation_at_fault_ends_the_run_and_counts_no_picture(folder, monkeypatch):
    monkeypatch.setitem(DEGRADATIONS._entries, "own", lambda block, rng: block // 2)
    parts = [MixtureComponent(str(folder / "photos"), "m3:degradations=own")]
    log = folder / BAD_RECORDS
    encoder = ExampleEncoder(TextSlots(24, 12, 48))
    pipeline = DataPipeline(parts, (32, 32), 4, 0, encoder, max_bad_fraction=1.0, log=log)
    with pytest.raises(UserError, match="task M3: degradation 'own' must return a tuple"):
        fixed_batch(pipeline, 1)
    assert {entry["record"] for entry in read_bad_records(folder)} <= {"04.png", "05.png"}


@dataclasses.dataclass(frozen=True)
class Darker:
    """A task whose target is not bytes."""

    num_images: int = 1

    def __call__(self, images, rng, crop):
        return Example(images, "Darker.", images[0] / 255)


def test_a_target_that_is_not_bytes_ends_the_run_and_names_the_task(folder, monkeypatch):
    monkeypatch.setitem(TASKS._entries, "darker", Darker())
    parts = [MixtureComponent(str(folder / "photos"), "darker")]
    encoder = ExampleEncoder(TextSlots(24, 12, 48))
    pipeline = DataPipeline(parts, (32, 32), 4, 0, encoder, max_bad_fraction=1.0)
    with pytest.raises(UserError, match=r"task Darker: an example's target .* got float64"):
        fixed_batch(pipeline, 1)
