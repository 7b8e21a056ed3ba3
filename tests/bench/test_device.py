"""`python -m ditfuse_jax.bench.device`: results, order, time, and measurements that fail."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from ditfuse_jax.bench.device import attention, worker
from ditfuse_jax.bench.device.__main__ import main
from ditfuse_jax.bench.device.outcome import CheckFailed, NotApplicable
from ditfuse_jax.bench.device.plan import FULL, KERNELS, SMALL, Task, make_plan
from ditfuse_jax.bench.device.results import FAILED, OK, SKIPPED, Results
from ditfuse_jax.bench.device.supervise import supervise

# Stands for the worker: answers at once, fails, crashes or hangs, as the name says.
FAKE_WORKER = """
import json, os, signal, sys, time
answers = os.fdopen(int(sys.argv[sys.argv.index("--answers") + 1]), "w")
kind = sys.argv[sys.argv.index("--kind") + 1]
def answer(**values):
    print(json.dumps(values), file=answers, flush=True)
answer(facts={"kind": kind, "process": os.getpid()})
for line in sys.stdin:
    name = line.strip()
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hang":
        time.sleep(60)
    if name == "fail":
        answer(status="failed", note="RuntimeError: out of memory")
    else:
        answer(status="ok", values={"kind": kind, "process": os.getpid()})
"""


def tasks(*names: str, estimate: float = 1.0) -> list[Task]:
    return [
        Task(name, "none", "none", estimate=estimate, worker=name if name == "torch" else "jax")
        for name in names
    ]


@pytest.fixture
def run(tmp_path):
    """Runs named measurements with the fake worker and returns the results by name."""

    def run(*names, seconds=30.0, estimate=1.0):
        planned = tasks(*names, estimate=estimate)
        results = Results(tmp_path / "out", names, {})
        script = tmp_path / "worker.py"
        script.write_text(FAKE_WORKER)
        command = [sys.executable, str(script)]
        supervise(planned, results, time.monotonic() + seconds, small=False, command=command)
        written = json.loads((tmp_path / "out" / "device.json").read_text())["results"]
        assert [result["name"] for result in written] == list(names)
        return {result["name"]: result for result in written}

    return run


@pytest.mark.processes
def test_a_measurement_that_fails_or_crashes_does_not_end_the_others(run):
    found = run("first", "fail", "second", "crash", "third")
    assert [found[name]["status"] for name in found] == [OK, FAILED, OK, FAILED, OK]
    assert found["fail"]["note"] == "RuntimeError: out of memory"
    assert "SIGSEGV" in found["crash"]["note"]
    process = {name: found[name]["values"]["process"] for name in ("first", "second", "third")}
    assert process["first"] == process["second"] != process["third"]


@pytest.mark.processes
def test_a_measurement_that_hangs_is_ended_and_the_time_is_kept(run):
    started = time.monotonic()
    found = run("first", "hang", "never", seconds=3.0)
    assert time.monotonic() - started < 8.0
    assert [found[name]["status"] for name in found] == [OK, FAILED, SKIPPED]
    assert "no result after" in found["hang"]["note"]
    assert "not started: takes about 1 s" in found["never"]["note"]


@pytest.mark.processes
def test_what_takes_longer_than_the_time_left_is_skipped_and_what_fits_is_run(run):
    found = run("first", seconds=5.0, estimate=6.0)
    assert found["first"]["status"] == SKIPPED
    assert "5 s were left" in found["first"]["note"]


@pytest.mark.processes
def test_pytorch_runs_in_a_process_of_its_own(run):
    found = run("first", "torch", "second")
    kinds = [found[name]["values"]["kind"] for name in found]
    assert kinds == ["jax", "torch", "jax"]
    assert len({found[name]["values"]["process"] for name in found}) == 3


def test_both_files_are_complete_after_every_change(tmp_path):
    results = Results(tmp_path, ["a", "b"], {"device": "H100"})
    results.start("a")

    def read():
        states = json.loads((tmp_path / "device.json").read_text())["results"]
        rows = (tmp_path / "device.md").read_text().splitlines()[-2:]
        return [state["status"] for state in states], [row.split(" | ")[1] for row in rows]

    assert read() == (["running", "waiting"],) * 2
    results.finish("a", OK, {"forward ms": 1.23456, "on": "a|b"}, seconds=2.0)
    assert read() == (["ok", "waiting"],) * 2
    text = (tmp_path / "device.md").read_text()
    assert "forward ms 1.235, on a\\|b | 2.0 |" in text
    assert "* device: H100" in text


def test_the_plan_begins_with_the_kernels_and_names_everything_once():
    names = [task.name for task in make_plan(FULL)]
    assert len(set(names)) == len(names)
    assert names[: len(KERNELS)] == [f"check {name}" for name in KERNELS]
    for text in ("512 px", "1024 px", "LoRA", "train full", "sample, 512", "SDPA", "bundled"):
        assert any(text in name for name in names)


def test_a_kernel_that_computes_something_else_fails_with_its_errors(monkeypatch):
    from ditfuse_jax.model.attention import IMPLEMENTATIONS

    exact = IMPLEMENTATIONS["xla"]
    monkeypatch.setitem(IMPLEMENTATIONS._entries, "xla", lambda *x: 1.01 * exact(*x))
    with pytest.raises(CheckFailed, match="out, dq, dk, dv: more than") as caught:
        attention.check(SMALL, "xla", 32)
    assert caught.value.values["error of out"] == pytest.approx(0.01, rel=0.01)


def test_padding_is_part_of_the_compared_sequence():
    mask, (*_, valid, _) = attention.inputs(SMALL, 32)
    assert 0 < np.sum(~valid) < mask.num_keys


@pytest.mark.parametrize(
    ("error", "status", "note"),
    [
        (NotApplicable("PyTorch is not installed"), SKIPPED, "PyTorch is not installed"),
        (MemoryError("first line\nsecond"), FAILED, "MemoryError: first line"),
        (CheckFailed("dq: more than 0.02", {"error of dq": 0.5}), FAILED, "dq: more than 0.02"),
    ],
)
def test_whatever_a_measurement_raises_becomes_its_result(monkeypatch, error, status, note):
    def fails(*_):
        raise error

    monkeypatch.setattr(Task, "run", fails)
    found = worker._measure(Task("x", "none", "none"), SMALL)
    assert (found["status"], found["note"]) == (status, note)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "nothing*"], "no measurement is called 'nothing*'"),
        (["--minutes", "0"], "--minutes must be positive"),
    ],
)
def test_bad_arguments_are_reported_in_one_line(tmp_path, capsys, words, message):
    assert main(["-o", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.medium
@pytest.mark.processes
@pytest.mark.slow
def test_every_measurement_runs_at_small_sizes_on_a_cpu(tmp_path):
    command = [sys.executable, "-m", "ditfuse_jax.bench.device", "--small"]
    command += ["--minutes", "9", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "device.json").read_text())
    assert written["platform"] == "cpu"
    found = {result["name"]: result for result in written["results"]}
    assert list(found) == [task.name for task in make_plan(SMALL)]
    bad = {n: r["note"] for n, r in found.items() if r["status"] == FAILED}
    assert not bad
    skipped = {name for name, result in found.items() if result["status"] == SKIPPED}
    assert all("SDPA" in name for name in skipped)
    assert found["check cudnn_split"]["values"]["error of dk"] < 1e-4
    assert found["train LoRA, remat=auto, 32 px"]["values"]["remat"] == "none"
    assert found["sample, 32 px"]["values"]["seconds per pair"] > 0
    assert found["bundled model"]["values"]["images/s"] > 0
    assert (tmp_path / "device.md").read_text() == done.stdout
