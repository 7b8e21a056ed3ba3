"""`ditfuse runs`: what the folders of runs say, sound, damaged or still written."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time

import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path
from ditfuse_jax.train import setup
from ditfuse_jax.train.list_runs import SORT_KEYS, list_runs
from ditfuse_jax.train.metrics_files import last_records
from ditfuse_jax.train.run_lock import Owner, acquire, machine

linux = pytest.mark.skipif(not machine(), reason="needs /proc of Linux")

CONFIG = {"model": {"preset": "nano"}, "data": {"batch_size": 8}, "train": {"steps": 100}}
ELSEWHERE = {"host": "node7", "process": 12, "machine": "another boot", "token": "x"}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def make_run(folder, step=60, loss=0.5, speed=4.0, best=(), owner=None):
    """Writes a run folder as a training leaves it; returns the folder."""
    write(folder / "config.json", CONFIG)
    write(folder / "runs.jsonl", '{"step": 0}\n')
    rates = {"images_per_second": speed}
    records = [{"step": s, "loss": 1.0, **rates} for s in range(10, step, 10)]
    records += [{"step": step, "loss": loss, **rates}, {"step": step, "eval/PSNR_clean": 20.0}]
    write(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    write(folder / "checkpoints" / str(step) / "x", "")
    if best:
        values = {"metric": "eval/PSNR_clean", "direction": "higher", "values": dict(best)}
        write(folder / "best.json", values)
    write_owner(folder, owner or dataclasses.replace(Owner.current(), released=True))
    return folder


def write_owner(folder, owner, number=1):
    write(folder / "lock" / f"{number:06d}.json", dataclasses.asdict(owner))


def only(folder):
    (run,) = list_runs(folder)
    return run


def test_a_stopped_run_has_all_its_values(tmp_path):
    make_run(tmp_path / "a", best={"20": 30.0, "60": 24.5, "80": 25.0})
    run = only(tmp_path)
    assert (run.name, run.state, run.step, run.steps) == ("a", "stopped", 60, 100)
    assert (run.loss, run.images_per_second, run.seconds_per_step) == (0.5, 4.0, 2.0)
    assert run.preset == "nano" and run.problems == () and run.failure == ""
    # Only the step 60 has a checkpoint.
    assert run.best and (run.best.value, run.best.step) == (24.5, 60)
    assert run.written and abs(run.written - time.time()) < 60


def test_a_run_with_the_checkpoint_of_its_last_step_is_finished(tmp_path):
    make_run(tmp_path / "a", step=100)
    assert only(tmp_path).state == "finished"


@linux
def test_a_run_trains_while_its_owner_holds_the_lock_and_is_stopped_after(tmp_path):
    make_run(tmp_path / "a")
    lock = acquire(tmp_path / "a", print)
    run = only(tmp_path)
    assert run.state == "training" and run.owner and run.owner.process == os.getpid()
    lock.release()
    assert only(tmp_path).state == "stopped"


@linux
def test_a_run_whose_process_was_killed_has_failed(tmp_path):
    make_run(tmp_path / "a", owner=dataclasses.replace(Owner.current(), process_start="1"))
    run = only(tmp_path)
    assert run.state == "failed"
    assert run.failure.startswith(f"process {os.getpid()} on ")
    assert run.failure.endswith("was killed or lost")


def test_an_owner_elsewhere_trains_while_it_renews_its_file(tmp_path):
    make_run(tmp_path / "a", owner=dataclasses.replace(Owner.current(), **ELSEWHERE))
    assert only(tmp_path).state == "training"
    old = time.time() - 100
    os.utime(tmp_path / "a" / "lock" / "000001.json", (old, old))
    run = only(tmp_path)
    assert run.state == "failed" and "process 12 on node7" in run.failure


def test_the_error_of_a_training_is_kept_by_the_lock_until_the_next_start(tmp_path):
    make_run(tmp_path / "a")
    for error, kept in (
        (UserError("no data\n here"), r"no data\n here"),
        (ValueError("odd"), "ValueError: odd"),
        (KeyboardInterrupt(), ""),
        (None, ""),
    ):
        lock = acquire(tmp_path / "a", print)
        setup._release(lock, None, error, None)
        run = only(tmp_path)
        assert (run.state, run.failure) == ("failed" if kept else "stopped", kept)


def test_the_runs_of_sweeps_are_found_also_one_that_only_left_a_log(tmp_path):
    make_run(tmp_path / "sweeps" / "size" / "runs" / "good-seed0")
    log = "ditfuse train: starting\nditfuse train: error: data source 'nowhere' is unknown\n"
    write(tmp_path / "sweeps" / "size" / "runs" / "bad-seed0" / "log.txt", log)
    write(tmp_path / "other" / "log.txt", log)
    bad, good = list_runs(tmp_path / "sweeps")
    assert (bad.name, bad.state) == ("size/runs/bad-seed0", "failed")
    assert bad.failure == log.splitlines()[-1] and bad.problems == ()
    assert (good.name, good.state) == ("size/runs/good-seed0", "stopped")
    assert [run.name for run in list_runs(tmp_path / "other")] == []
    assert only(good.path).name == "good-seed0"


def test_a_link_to_a_listed_run_is_left_out_and_one_to_a_run_elsewhere_is_listed(tmp_path):
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "elsewhere" / "b")
    (tmp_path / "runs" / "latest").symlink_to(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere" / "b")
    assert [run.name for run in list_runs(tmp_path / "runs")] == ["a", "linked"]


def test_a_damaged_run_is_listed_and_each_damage_is_told(tmp_path, capsys):
    run = make_run(tmp_path / "a", best={"60": 1.0})
    write(run / "config.json", "{")
    write(run / "best.json", '{"metric": 1}')
    write(run / "lock" / "000002.json", "[]")
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\x00\x00\n")
    found = only(tmp_path)
    assert (found.step, found.loss, found.steps, found.best) == (60, 0.5, None, None)
    assert found.problems == (
        "config.json is damaged",
        "metrics: 1 damaged lines near the end are left out",
        "best.json is damaged",
        "lock/000002.json is damaged",
    )
    assert main(["runs", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert "60/?" in output.out
    assert output.err.splitlines() == [f"a: {problem}" for problem in found.problems]


def test_an_empty_run_is_told(tmp_path):
    write_owner(tmp_path / "a", dataclasses.replace(Owner.current(), released=True))
    (tmp_path / "not a run").mkdir()
    run = only(tmp_path)
    assert (run.step, run.state) == (None, "stopped")
    assert run.problems == ("it holds neither metrics nor a checkpoint",)


def test_json_has_the_same_values_and_no_invalid_numbers(tmp_path, capsys):
    make_run(tmp_path / "a", loss=math.nan, best={"60": 24.5})
    assert main(["runs", str(tmp_path), "--json"]) == 0

    def refuse(text):
        raise AssertionError(text)

    (run,) = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert math.isnan(float(run["loss"]))
    expected = {"metric": "eval/PSNR_clean", "direction": "higher", "value": 24.5, "step": 60}
    assert run["best"] == expected
    assert (run["state"], run["step"], run["seconds_per_step"]) == ("stopped", 60, 2.0)


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("name", "abc"),
        ("step", "bac"),
        ("speed", "cab"),
        ("loss", "bac"),  # NaN last
        ("best", "cab"),  # none last
        ("state", "abc"),
    ],
)
def test_rows_are_sorted_by_a_column(tmp_path, capsys, key, order):
    make_run(tmp_path / "a", step=60, loss=0.5, speed=4.0, best={"60": 20.0})
    make_run(tmp_path / "b", step=70, loss=0.4, speed=3.0)
    make_run(tmp_path / "c", step=50, loss=math.nan, speed=5.0, best={"50": 30.0})
    assert main(["runs", str(tmp_path), "--sort", key]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    columns = ["name", "state", "step", "images/s", "loss", "best", "written", "preset"]
    assert header.split() == columns
    assert "".join(row[0] for row in rows) == order


def test_the_command_offers_every_sort_key(tmp_path, capsys):
    for key in SORT_KEYS:
        assert main(["runs", str(tmp_path), "--sort", key]) == 0
    with pytest.raises(SystemExit) as stop:
        main(["runs", str(tmp_path), "--sort", "nothing"])
    assert stop.value.code == 2 and "invalid choice: 'nothing'" in capsys.readouterr().err


def test_a_folder_that_is_missing_is_refused_and_one_without_runs_is_told(tmp_path, capsys):
    assert main(["runs", str(tmp_path / "none")]) == 2
    line = f"{tmp_path / 'none'}: no such folder: give a folder of runs"
    assert capsys.readouterr().err == f"ditfuse runs: error: {line}\n"
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no run folders in {tmp_path}\n"


def test_only_the_end_of_long_metrics_is_read(tmp_path):
    line = json.dumps({"step": 1, "text": "x" * 100}) + "\n"
    (tmp_path / "metrics.jsonl").write_text("damaged\n" + line * 100 + '{"step": 9}\n{"st')
    records, damaged = last_records(tmp_path / "metrics.jsonl", size=len(line) * 3)
    assert [record["step"] for record in records] == [1, 1, 9] and damaged == 0
    records, damaged = last_records(tmp_path / "metrics.jsonl")
    assert (len(records), damaged) == (101, 1)


@pytest.mark.processes
def test_runs_in_a_bucket_are_listed(gcs, tmp_path):
    local = make_run(tmp_path / "a", best={"60": 24.5})
    root = as_path(f"{gcs.bucket()}/runs")
    for path in local.rglob("*"):
        if path.is_file() and path.name != "metrics.jsonl":
            (root / "deep" / path.relative_to(tmp_path)).write_bytes(path.read_bytes())
    target = root / "deep" / "a"
    (target / "checkpoints" / "60" / "commit_success.txt").write_bytes(b"")
    lines = (local / "metrics.jsonl").read_text().splitlines(keepends=True)
    (target / "metrics" / "000001-000000.jsonl").write_text("".join(lines[:3]))
    (target / "metrics" / "000001-000001.jsonl").write_text("".join(lines[3:]))
    run = only(root)
    assert (run.name, run.state, run.step, run.loss) == ("deep/a", "stopped", 60, 0.5)
    assert run.best and run.best.step == 60 and run.problems == ()
    assert run.written and abs(run.written - time.time()) < 3600


@pytest.mark.processes
def test_the_command_imports_neither_jax_nor_numpy(tmp_path):
    make_run(tmp_path / "a")
    code = (
        "import sys; from ditfuse_jax.cli import main\n"
        f"assert main(['runs', {str(tmp_path)!r}]) == 0\n"
        "print(sorted({'jax', 'flax', 'numpy', 'orbax', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
