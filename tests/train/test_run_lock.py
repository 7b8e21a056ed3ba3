"""A run folder has one owner at a time."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path
from ditfuse_jax.train import run_lock
from ditfuse_jax.train.run_lock import Owner, acquire, machine, process_start

linux = pytest.mark.skipif(not machine(), reason="needs /proc of Linux")


@pytest.fixture
def said():
    return []


@pytest.fixture
def take(tmp_path, said):
    """Acquires the lock of the folder; the locks are released at the end."""
    locks = []

    def acquire_here(folder=tmp_path):
        locks.append(acquire(folder, said.append))
        return locks[-1]

    yield acquire_here
    for lock in locks:
        lock.release()


@pytest.fixture
def fast(monkeypatch):
    """Locks that expire within a second."""
    monkeypatch.setattr(run_lock, "RENEW_EVERY", 0.1)
    monkeypatch.setattr(run_lock, "EXPIRES_AFTER", 0.6)
    monkeypatch.setattr(run_lock, "_POLL_EVERY", 0.02)


def newest(folder):
    return max((folder / "lock").iterdir())


def leave(folder, number=1, **changes):
    """Writes the file of an owner of which only the file is left."""
    owner = dataclasses.replace(Owner.current(), **changes)
    (folder / "lock").mkdir(exist_ok=True)
    path = folder / "lock" / f"{number:06d}.json"
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    return owner


ELSEWHERE = {"host": "node7", "process": 12, "machine": "another boot"}


@linux
def test_a_second_owner_is_refused_with_host_process_and_start_of_the_first(take, tmp_path, said):
    lock = take()
    owner = json.loads(newest(tmp_path).read_text())
    with pytest.raises(UserError) as refused:
        take()
    assert f"process {os.getpid()} on {owner['host']}, started {owner['started']}" in str(
        refused.value
    )
    assert "\n" not in str(refused.value)
    assert said == []
    lock.release()
    assert take().number == lock.number + 1


def test_only_one_of_many_that_start_at_once_becomes_the_owner(tmp_path, said):
    barrier, owners, refused = threading.Barrier(8), [], []

    def run():
        barrier.wait()
        try:
            owners.append(acquire(tmp_path, said.append))
        except UserError as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(owners), len(refused)) == (1, 7)
    owners[0].release()


@linux
@pytest.mark.processes
def test_a_process_of_this_machine_that_was_killed_is_replaced_at_once(take, tmp_path, said):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from ditfuse_jax.train.run_lock import acquire\n"
        "acquire(Path(sys.argv[1]), print); print('owns', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "owns\n"
    with pytest.raises(UserError, match=f"in use by process {process.pid} on "):
        take()
    process.send_signal(signal.SIGSTOP)  # suspended, it still owns the folder
    with pytest.raises(UserError, match=f"in use by process {process.pid} on "):
        take()
    process.kill()
    while process_start(process.pid):  # it is a zombie then: nobody waits for it yet
        time.sleep(0.01)
    assert take().number == 2
    assert said == []
    process.wait()


@linux
def test_another_process_with_the_number_of_a_dead_owner_is_not_taken_for_it(take, tmp_path):
    leave(tmp_path, process=os.getppid(), process_start="1")
    assert take().number == 2


@linux
def test_a_program_that_replaced_the_owner_in_its_process_takes_over(take, tmp_path):
    leave(tmp_path)  # this process, which holds no lock
    assert take().number == 2


def test_a_lock_from_elsewhere_is_taken_over_when_it_is_not_renewed(take, tmp_path, said, fast):
    owner = leave(tmp_path, **ELSEWHERE)
    began = time.monotonic()
    assert take().number == 2
    assert 0.6 <= time.monotonic() - began < 5
    (line,) = said
    assert str(owner) in line and "waiting up to" in line
    assert [path.name for path in (tmp_path / "lock").iterdir()] == ["000002.json"]


def test_a_released_lock_from_elsewhere_is_free_at_once(take, tmp_path, said):
    leave(tmp_path, **ELSEWHERE, released=True)
    take()
    assert said == []


@pytest.mark.parametrize("ends", ["released", "killed", "never"])
def test_an_owner_elsewhere_is_waited_for_while_it_may_end(take, tmp_path, fast, ends):
    ended = threading.Event()
    leave(tmp_path, **ELSEWHERE)

    def renew():
        owner = Owner(**json.loads(newest(tmp_path).read_text()))
        for count in range(1, 1000):
            released = ends == "released" and count == 2
            text = dataclasses.asdict(dataclasses.replace(owner, renewals=count, released=released))
            path = tmp_path / "lock" / "new"
            path.write_text(json.dumps(text))
            path.replace(tmp_path / "lock" / "000001.json")
            if ended.wait(0.1) or (ends != "never" and count == 2):
                return

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        if ends == "never":
            with pytest.raises(UserError, match="in use by process 12 on node7"):
                take()
        else:
            assert take().number == 2
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "a"}'])
def test_a_damaged_lock_expires(take, tmp_path, fast, text):
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock" / "000004.json").write_text(text)
    assert take().number == 5


def test_the_thread_renews_the_lock(take, tmp_path, fast):
    take()
    deadline = time.monotonic() + 10
    while json.loads(newest(tmp_path).read_text())["renewals"] < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_owner_that_lost_the_lock_learns_it_and_never_touches_the_new_one(tmp_path, take, fast):
    lock = take()
    lock.check()
    successor = leave(tmp_path, lock.number + 2, **ELSEWHERE)
    (tmp_path / "lock" / f"{lock.number:06d}.json").unlink()  # the next owner removes it
    text = newest(tmp_path).read_text()
    deadline = time.monotonic() + 10
    while not lock.lost:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(UserError, match="has another owner now: process 12 on node7"):
        lock.check()
    lock.release()
    assert [path.name for path in (tmp_path / "lock").iterdir()] == ["000003.json"]
    assert newest(tmp_path).read_text() == text
    assert successor.host in text


def test_a_process_that_was_suspended_checks_before_it_writes(tmp_path, take, monkeypatch):
    lock = take()
    leave(tmp_path, lock.number + 1, **ELSEWHERE)
    lock.check()  # renewed a moment ago: nobody can have taken over
    now = run_lock._now()
    monkeypatch.setattr(run_lock, "_now", lambda: now + 3600)
    with pytest.raises(UserError, match="has another owner now"):
        lock.check()


def test_storage_that_does_not_answer_does_not_end_the_owner(tmp_path, take, monkeypatch):
    lock = take()
    now = run_lock._now()
    monkeypatch.setattr(run_lock, "_now", lambda: now + 3600)

    def fails(*arguments):
        raise OSError("no answer")

    monkeypatch.setattr(run_lock, "_newest", fails)
    lock.check()
    monkeypatch.undo()
    lock.check()


def test_a_step_does_not_wait_for_storage_that_hangs(tmp_path, take, monkeypatch):
    asked, answers = threading.Event(), threading.Event()
    newest_number = run_lock._newest

    def hangs(folder):
        asked.set()
        answers.wait(10)
        return newest_number(folder)

    lock = take()
    monkeypatch.setattr(run_lock, "_newest", hangs)
    thread = threading.Thread(target=lambda: lock._renewing.__enter__() and lock._try_to_renew())
    thread.start()
    assert asked.wait(10)
    now = run_lock._now()
    monkeypatch.setattr(run_lock, "_now", lambda: now + 3600)
    began = time.monotonic()
    lock.check()
    monkeypatch.setattr(run_lock, "RELEASE_WITHIN", 0.1)
    lock.release()
    assert time.monotonic() - began < 5
    answers.set()
    thread.join()
    lock._renewing.release()


def test_a_removed_lock_folder_is_made_again(tmp_path, take, monkeypatch):
    lock = take()
    newest(tmp_path).unlink()
    (tmp_path / "lock").rmdir()
    now = run_lock._now()
    monkeypatch.setattr(run_lock, "_now", lambda: now + 3600)
    lock.check()
    assert json.loads(newest(tmp_path).read_text())["renewals"] == 1


def test_checking_costs_no_request_between_renewals(take, monkeypatch):
    lock = take()
    monkeypatch.setattr(run_lock, "_newest", lambda folder: pytest.fail("a request"))
    began = time.perf_counter()
    for _ in range(1000):
        lock.check()
    assert time.perf_counter() - began < 0.5
    monkeypatch.undo()


@pytest.mark.processes
def test_in_a_bucket_one_of_several_owns_the_run_and_a_dead_owner_is_replaced(store, said, fast):
    run = as_path(f"{store.bucket()}/run")
    barrier, owners, refused = threading.Barrier(4), [], []

    def start():
        barrier.wait()
        try:
            owners.append(acquire(run, said.append))
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(owners), len(refused)) == (1, 3)
    assert f"{run} is in use by process {os.getpid()} on " in refused[0]
    owners[0].release()
    gone = dataclasses.replace(Owner.current(), **ELSEWHERE)
    number = owners[0].number + 1
    text = json.dumps(dataclasses.asdict(gone)).encode()
    (run / "lock" / f"{number:06d}.json").write_bytes(text)
    lock = acquire(run, said.append)
    assert lock.number == number + 1
    lock.release()


@pytest.mark.processes
def test_in_a_bucket_a_renewal_takes_three_requests_and_a_step_none(gcs, said):
    run = as_path(f"{gcs.bucket()}/run")
    lock = acquire(run, said.append)
    gcs.proxy.reset()
    for _ in range(1000):
        lock.check()
    assert gcs.proxy.counts() == {}
    lock._try_to_renew()
    assert sum(gcs.proxy.counts().values()) <= 3
    lock.release()
