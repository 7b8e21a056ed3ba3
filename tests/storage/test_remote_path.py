"""Paths in object stores: requests, and failures that pass."""

import threading
import time

import pytest

from ditfuse_jax.errors import EXIT_TEMPORARY, UserError, exit_code
from ditfuse_jax.files import create_exclusively, write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.storage import retries

pytestmark = pytest.mark.processes  # the servers


@pytest.fixture(autouse=True)
def _new_outage(monkeypatch):
    monkeypatch.setattr(retries, "_last_reports", {})


def lines_about(bucket, capture):
    """What was printed about a bucket: threads of earlier tests may still ask for others."""
    return [line for line in capture.readouterr().err.splitlines() if bucket in line]


def test_reading_and_writing_a_file_are_one_request_each(store):
    path = as_path(f"{store.bucket()}/a/b")
    path.write_text("text")
    assert path.read_text() == "text"
    assert store.proxy.counts() == {"write": 1, "read": 1}


def test_a_folder_is_made_without_a_request_and_is_empty(store):
    folder = as_path(f"{store.bucket()}/a/b")
    folder.mkdir(parents=True, exist_ok=True)
    assert store.proxy.requests == []
    assert list(folder.iterdir()) == []
    assert not folder.exists()


def test_what_another_process_wrote_is_seen_at_once(store):
    folder = as_path(f"{store.bucket()}/a")
    (folder / "one").write_text("1")
    assert [path.name for path in folder.iterdir()] == ["one"]
    store.write(f"{folder}/two", b"2")
    assert [path.name for path in folder.iterdir()] == ["one", "two"]
    assert (folder / "two").exists()


def test_answers_503_are_repeated_and_told_in_one_line(store, capsys):
    bucket = store.bucket()
    path = as_path(f"{bucket}/a")
    store.proxy.fail_for(2)
    path.write_text("text")
    assert path.read_text() == "text"
    (line,) = lines_about(bucket, capsys)
    assert line.startswith(f"storage: {bucket}") and "nothing is lost" in line


@pytest.mark.slow
def test_a_server_that_is_gone_for_a_while_is_waited_for(store, capsys):
    bucket = store.bucket()
    path = as_path(f"{bucket}/a")
    path.write_text("before")
    store.proxy.refuse()
    threading.Timer(3, store.proxy.listen).start()
    assert path.read_text() == "before"
    assert len(lines_about(bucket, capsys)) == 1


def test_a_server_that_stalls_is_told_and_waited_for(gcs, capsys, monkeypatch):
    monkeypatch.setattr(retries, "SLOW_SECONDS", 0.5)
    bucket = gcs.bucket()
    path = as_path(f"{bucket}/a")
    gcs.proxy.stall_for(2)
    path.write_text("text")
    assert path.read_text() == "text"
    (line,) = lines_about(bucket, capsys)
    assert "no answer" in line


def test_a_failure_is_never_taken_for_an_absent_file(gcs, monkeypatch):
    monkeypatch.setattr(retries, "RETRY_SECONDS", 1.0)
    path = as_path(f"{gcs.bucket()}/a")
    path.write_text("text")
    gcs.proxy.fail_for(60)
    start = time.monotonic()
    for question in (path.exists, path.is_file, path.is_dir):
        with pytest.raises(OSError, match="the store failed for"):
            question()
    with pytest.raises(UserError, match="the store failed for") as caught:
        write_text(path, "other")
    assert exit_code(caught.value) == EXIT_TEMPORARY
    assert time.monotonic() - start < 15


def test_a_lock_is_mine_although_the_answer_to_its_creation_was_lost(gcs):
    path, answered = as_path(f"{gcs.bucket()}/lock"), []

    def lose_first(request):
        if request.kind == "write" and not answered:
            answered.append(request)
            return "lose"
        return None

    gcs.proxy.decide = lose_first
    assert create_exclusively(path, b"mine")
    assert not create_exclusively(path, b"other")
