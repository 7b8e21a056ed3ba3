"""Metrics and events of a run in a bucket, where nothing can be appended to."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ditfuse_jax.paths import as_path
from ditfuse_jax.train.metrics_files import read_metrics, set_aside
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers import MultiWriter, appended, background, make_writers

pytestmark = pytest.mark.processes


def steps(run):
    return [record["step"] for record in read_metrics(run.metrics)]


def test_metrics_are_parts_that_are_read_in_order_and_cut_without_loss(store, monkeypatch):
    monkeypatch.setattr(appended, "PART_BYTES", 100)
    monkeypatch.setattr(background, "FLUSH_EVERY", 0.0)  # after each record
    run = RunFolder(as_path(f"{store.bucket()}/run"))
    said = []
    writer = MultiWriter(make_writers(["jsonl", "tensorboard"], run, {}), said.append)
    for step in range(1, 21):
        writer.write(step, {"loss": 1.0})
    writer.close()
    assert said == []
    assert steps(run) == list(range(1, 21))
    names = [path.name for path in (run.path / "metrics").iterdir()]
    assert len(names) > 3
    assert sorted(names)[:2] == ["000000-000000.jsonl", "000000-000001.jsonl"]
    assert len(list(run.tensorboard.iterdir())) > 3
    moved = set_aside(run.metrics, 12)
    assert moved is not None
    assert steps(run) == list(range(1, 13))
    assert [record["step"] for record in read_metrics(moved.path)] == list(range(13, 21))


RECORDING = """
import sys, time
from ditfuse_jax.paths import as_path
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers import MultiWriter, background, make_writers
background.FLUSH_EVERY = 0.5
writer = MultiWriter(make_writers(["jsonl"], RunFolder(as_path(sys.argv[1])), {}))
for step in range(1, 10**6):
    writer.write(step, {"time": time.time()})
    time.sleep(0.01)
"""


def test_a_killed_run_loses_only_the_last_moments(gcs):
    run = RunFolder(as_path(f"{gcs.bucket()}/run"))
    process = subprocess.Popen([sys.executable, "-c", RECORDING, str(run.path)], env=os.environ)
    deadline = time.monotonic() + 60
    while len(steps(run)) < 100:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    killed = time.time()
    process.wait()
    records = read_metrics(run.metrics)
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    assert killed - records[-1]["time"] < 5  # half a second, and the time of a request


def test_requests_do_not_grow_with_the_number_of_records(gcs, monkeypatch):
    run = RunFolder(as_path(f"{gcs.bucket()}/run"))
    gcs.proxy.reset()
    writer = MultiWriter(make_writers(["jsonl"], run, {}))
    for step in range(1, 2001):
        writer.write(step, {"loss": 1.0})
    writer.close()
    assert sum(gcs.proxy.counts().values()) <= 2
    assert steps(run) == list(range(1, 2001))


def test_a_store_that_fails_for_a_while_loses_nothing(gcs, monkeypatch):
    monkeypatch.setattr(background, "FLUSH_EVERY", 0.05)
    run = RunFolder(as_path(f"{gcs.bucket()}/run"))
    writer = MultiWriter(make_writers(["jsonl"], run, {}))
    writer.write(1, {"loss": 1.0})
    gcs.proxy.fail_for(1.5)
    for step in range(2, 40):
        writer.write(step, {"loss": 1.0})
        time.sleep(0.02)
    writer.close()
    assert steps(run) == list(range(1, 40))
