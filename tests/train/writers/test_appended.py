"""Files and series of objects to which records are appended."""

import os

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.writers import appended
from ditfuse_jax.train.writers.appended import AppendedFile, AppendedParts


def test_a_record_is_in_the_file_when_append_returns(tmp_path):
    file = AppendedFile(tmp_path / "a" / "metrics.jsonl", header=b"head\n")
    file.append(b"one\n")
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == b"head\none\n"
    file.close()
    again = AppendedFile(tmp_path / "a" / "metrics.jsonl", header=b"head\n")
    again.append(b"two\n")
    again.close()
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == b"head\none\ntwo\n"


def test_a_disk_that_becomes_full_leaves_no_part_of_a_record(tmp_path, monkeypatch):
    path, write, room = tmp_path / "metrics.jsonl", os.write, [10]

    def limited(descriptor, data):
        taken = bytes(data[: room[0]])
        room[0] -= len(taken)
        if not taken:
            raise OSError(28, "No space left on device")
        return write(descriptor, taken)

    monkeypatch.setattr(appended.os, "write", limited)
    file = AppendedFile(path)
    file.append(b"record1\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(No space left on "):
        file.append(b"record2\n")
    assert path.read_bytes() == b"record1\n"
    room[0] = 100  # somebody has freed space
    file.append(b"record3\n")
    file.close()
    assert path.read_bytes() == b"record1\nrecord3\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full of Linux")
def test_a_really_full_device_is_one_line():
    file = AppendedFile(__import__("pathlib").Path("/dev/full"))
    with pytest.raises(UserError, match=r"^/dev/full: cannot be written \(No space left on dev"):
        file.append(b"x")
    file.close()


@pytest.fixture
def written(monkeypatch):
    """Records the name and size of every object that is written."""
    calls = []
    original = appended.write_bytes

    def write(path, data):
        calls.append((path.name, len(data)))
        original(path, data)

    monkeypatch.setattr(appended, "write_bytes", write)
    return calls


def whole(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_a_part_is_written_again_only_while_it_is_small(tmp_path, written, monkeypatch):
    monkeypatch.setattr(appended, "PART_BYTES", 1000)
    parts = AppendedParts(lambda number: tmp_path / f"{number:06d}")
    records = [b"%099d\n" % i for i in range(200)]
    for record in records:
        parts.append(record)
        parts.flush()
    parts.close()
    assert whole(tmp_path) == b"".join(records)
    assert len(list(tmp_path.iterdir())) == 20
    assert max(size for _, size in written) == 1000
    # Each byte is written 5.5 times on average, however long the run is.
    assert sum(size for _, size in written) == 20 * sum(range(100, 1001, 100))


def test_a_part_that_is_old_is_not_written_again(tmp_path, written, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(appended.time, "monotonic", lambda: now[0])
    parts = AppendedParts(lambda number: tmp_path / f"{number:06d}", header=b"h")
    for _ in range(3):
        parts.append(b"x")
        now[0] += 600
        parts.flush()
    parts.flush()  # nothing new: no request
    parts.close()
    assert written == [("000000", 2), ("000000", 3), ("000001", 2)]
    assert whole(tmp_path) == b"hxxhx"


def test_records_stay_in_memory_while_the_storage_fails(tmp_path, monkeypatch):
    parts = AppendedParts(lambda number: tmp_path / f"{number:06d}")
    write = appended.write_bytes

    def fails(path, data):
        raise UserError("no answer")

    monkeypatch.setattr(appended, "write_bytes", fails)
    for record in (b"1", b"2"):
        parts.append(record)
        with pytest.raises(UserError):
            parts.flush()
    monkeypatch.setattr(appended, "write_bytes", write)
    parts.append(b"3")
    parts.close()
    assert whole(tmp_path) == b"123"


def test_nothing_is_written_once_the_folder_has_another_owner(tmp_path):
    owned = [True]
    parts = AppendedParts(lambda number: tmp_path / f"{number:06d}", may_write=lambda: owned[0])
    parts.append(b"1")
    parts.flush()
    owned[0] = False
    parts.append(b"2")
    parts.close()
    assert whole(tmp_path) == b"1"
