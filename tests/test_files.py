"""Files are written whole or not at all, on local disk and in object stores."""

import hashlib
import tempfile
import threading
from pathlib import Path

import pytest

from ditfuse_jax import files
from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path


@pytest.fixture(params=["local", "gcs", "s3"])
def folder(request, tmp_path) -> Path:
    """A folder on each kind of storage."""
    if request.param == "local":
        return tmp_path
    return as_path(f"{request.getfixturevalue(request.param).bucket()}/folder")


pytestmark = pytest.mark.processes  # the servers


def test_what_is_written_is_read_listed_hashed_and_removed(folder):
    files.make_folder(folder / "sub")
    files.write_text(folder / "sub" / "text.txt", "ünï\ncode\n")
    files.write_bytes(folder / "data", memoryview(b"123"))
    files.write_bytes(folder / "data", b"456")
    assert (folder / "sub" / "text.txt").read_text(encoding="utf-8") == "ünï\ncode\n"
    assert [path.name for path in files.list_folder(folder)] == ["data", "sub"]
    assert files.sha256(folder / "data") == hashlib.sha256(b"456").hexdigest()
    assert (folder / "data").is_file() and not (folder / "data").is_dir()
    assert (folder / "sub").is_dir() and not (folder / "sub").is_file()
    assert (folder / "data").stat().st_size == 3
    assert [path.name for path in folder.glob("da*")] == ["data"]
    with (folder / "data").open("rb") as file:
        file.seek(1)
        assert file.read() == b"56"
    files.remove_folder(folder)
    assert files.list_folder(folder) == [] and not (folder / "data").exists()
    files.remove_folder(folder)


def test_of_several_that_create_a_file_exactly_one_does(folder):
    files.make_folder(folder)
    start, won = threading.Barrier(6), []

    def create(number: int) -> None:
        start.wait()
        if files.create_exclusively(folder / "lock", b"process %d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (folder / "lock").read_bytes() == b"process %d" % won[0]
    assert [path.name for path in files.list_folder(folder)] == ["lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for write in (files.write_bytes, files.create_exclusively):
        with pytest.raises(UserError, match=r"file/x: cannot be written \(Not a directory\)"):
            write(tmp_path / "file" / "x", b"")


def test_a_bucket_that_does_not_exist_is_named_and_not_made(store):
    path = as_path(f"{store.scheme}://no-such-bucket/x/y")
    for write in (files.write_bytes, files.create_exclusively):
        with pytest.raises(UserError, match="there is no bucket 'no-such-bucket'"):
            write(path, b"1")
    with pytest.raises(UserError, match="there is no bucket 'no-such-bucket'"):
        files.make_folder(path.parent)


def test_a_missing_permission_is_told_in_one_line(gcs):
    path = as_path(f"{gcs.bucket()}/x")
    for status, text in (
        (401, "Anonymous caller does not have storage.objects.create access"),
        (403, "user does not have storage.objects.create access"),
    ):
        gcs.proxy.fail_for(60, status, text=text)
        with pytest.raises(UserError, match=text) as caught:
            files.write_bytes(path, b"1")
        assert "\n" not in str(caught.value)


def test_without_a_home_folder_compiled_programs_go_to_a_temporary_one(monkeypatch):
    monkeypatch.delenv(files.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    folder = files.compilation_cache()
    assert folder.is_absolute() and folder.is_dir()
    assert folder.is_relative_to(tempfile.gettempdir())
    monkeypatch.setenv(files.CACHE_VARIABLE, "/given")
    assert str(files.compilation_cache()) == "/given"
    folder.rmdir()


def test_a_check_whether_a_folder_can_be_written_leaves_what_was_there(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "file").write_text("x")
    files.check_writable(tmp_path / "kept" / "a" / "b")
    files.check_writable(tmp_path / "kept")
    for place in ("file", "file/folder"):
        with pytest.raises(UserError, match=r"file.*: the folder cannot be created"):
            files.check_writable(tmp_path / place)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "kept"]
    assert not any((tmp_path / "kept").iterdir())


def test_a_text_replaces_a_text_and_no_other_file(tmp_path):
    image, text = tmp_path / "x.png", tmp_path / "scores.json"
    image.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    text.write_text("{}")
    for path in (text, tmp_path / "new" / "scores.json"):
        files.prepare_text_file(path)
    for check in (files.check_text_file, files.prepare_text_file):
        with pytest.raises(UserError, match=r"x\.png exists and is no text: choose another file"):
            check(image)
    with pytest.raises(UserError, match="is a folder: name a file"):
        files.prepare_text_file(tmp_path)
