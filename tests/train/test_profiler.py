"""Profiles, HLO and the table of memory in the run folder."""

import json
import os
import signal

import jax
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.heartbeat import exit_together
from ditfuse_jax.train import train
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.profiler import STEPS_ON_REQUEST

pytestmark = pytest.mark.medium


def profiles(folder) -> dict[str, list[str]]:
    """Returns profile -> files."""
    root = folder / "profiles" / "plugins" / "profile"
    found = sorted(root.iterdir()) if root.exists() else []
    return {path.name: sorted(file.name for file in path.iterdir()) for path in found}


def marks(folder, profile: str) -> dict[str, list]:
    """Returns the steps that a profile marks, and the kinds of work in it."""
    path = folder / "profiles/plugins/profile" / profile / "process-0.xplane.pb"
    data = jax.profiler.ProfileData.from_file(str(path))
    events = [e for plane in data.planes for line in plane.lines for e in line.events]
    steps = [dict(event.stats)["step_num"] for event in events if event.name == "train"]
    return {"steps": sorted(map(int, steps)), "names": [event.name for event in events]}


def test_profile_steps_marks_these_steps_and_the_work_in_them(tiny, tmp_path):
    config = tiny("--config.train.steps=6", "--config.train.profile_steps=(3, 4)")
    train(config, tmp_path, evaluations=(), quiet=True)
    assert profiles(tmp_path) == {"step-3": ["process-0.xplane.pb"]}
    found = marks(tmp_path, "step-3")
    assert found["steps"] == [3, 4]
    for kind in ("data", "step"):
        assert found["names"].count(kind) >= 2
    assert "callback" in found["names"]


def test_xprof_opens_a_profile_and_finds_its_steps(tiny, tmp_path):
    raw_to_tool_data = pytest.importorskip("xprof.convert.raw_to_tool_data")
    config = tiny("--config.train.steps=4", "--config.train.profile_steps=(2, 3)")
    train(config, tmp_path, evaluations=(), quiet=True)
    (path,) = tmp_path.rglob("*.xplane.pb")
    data, _ = raw_to_tool_data.xspace_to_tool_data([str(path)], "trace_viewer", {})
    events = json.loads(data)["traceEvents"]
    marked = [event["args"] for event in events if "step_num" in event.get("args", {})]
    assert sorted((mark["step_num"], mark["step_name"]) for mark in marked) == [
        ("2", "train 2"),
        ("3", "train 3"),
    ]


def test_a_profile_that_the_run_s_end_cuts_short_is_written(tiny, tmp_path):
    config = tiny("--config.train.steps=3", "--config.train.profile_steps=(3, 9)")
    train(config, tmp_path, evaluations=(), quiet=True)
    assert marks(tmp_path, "step-3")["steps"] == [3]


def test_a_signal_asks_for_a_profile_of_the_next_steps(tiny, tmp_path):
    def callback(context):
        if context.step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    config = tiny("--config.train.steps=12")
    with exit_together("work"):
        train(config, tmp_path, callbacks=[callback], evaluations=(), quiet=True)
    assert list(profiles(tmp_path)) == ["step-4"]
    assert marks(tmp_path, "step-4")["steps"] == list(range(4, 4 + STEPS_ON_REQUEST))
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.slow
def test_a_profile_that_cannot_be_taken_ends_neither_the_run_nor_the_other_profile(
    tiny, tmp_path, capsys
):
    config = tiny("--config.train.steps=3", "--config.train.profile_steps=(1, 1)")
    with jax.profiler.trace(str(tmp_path / "other")):
        outcome = train(config, tmp_path / "run", evaluations=())
    assert outcome.step == 3 and not profiles(tmp_path / "run")
    assert "no profile from step 1: " in capsys.readouterr().err
    assert list((tmp_path / "other").rglob("*.xplane.pb"))


def test_a_run_writes_the_memory_of_its_step_and_on_request_its_hlo(tiny, tmp_path, capsys):
    config = tiny("--config.train.steps=1", "--config.train.dump_hlo=True")
    train(config, tmp_path / "run", evaluations=())
    folder = tmp_path / "run" / "compiled" / "32x32"
    table = (folder / "memory.txt").read_text()
    assert table in capsys.readouterr().err
    assert table.startswith("memory of the training step for 32x32 pixels on a device: ")
    for part in ("arguments: parameters", "moments", "outputs", "temporaries", "[8,"):
        assert part in table
    before = (folder / "before_optimization.hlo.txt").read_text()
    after = (folder / "after_optimization.hlo.txt").read_text()
    assert before.startswith("HloModule") and after.startswith("HloModule")
    assert "is_scheduled=true" in after and "is_scheduled=true" not in before


def test_nothing_is_written_without_being_asked_for(tiny, tmp_path):
    train(tiny("--config.train.steps=2"), tmp_path, evaluations=(), quiet=True)
    assert not profiles(tmp_path)
    assert [path.name for path in (tmp_path / "compiled").rglob("*.txt")] == ["memory.txt"]
    assert not any("memory" in key for r in read_metrics(tmp_path / "metrics.jsonl") for key in r)


def test_the_memory_of_a_device_that_reports_it_is_in_the_metrics(tiny, tmp_path, monkeypatch):
    reported = {"in_use": 2**30, "peak": 2**31, "limit": 2**33}
    monkeypatch.setattr("ditfuse_jax.train.recorder.device_memory", lambda: reported)
    train(tiny("--config.train.steps=1"), tmp_path, evaluations=(), quiet=True)
    record = read_metrics(tmp_path / "metrics.jsonl")[0]
    found = {key: value for key, value in record.items() if "memory" in key}
    assert found == {"memory_in_use_gib": 1.0, "memory_peak_gib": 2.0, "memory_limit_gib": 8.0}


@pytest.mark.parametrize("value", ["(5,)", "(0, 3)", "(7, 3)", "('a', 'b')"])
def test_wrong_profile_steps_are_refused(tiny, tmp_path, value):
    config = tiny(f"--config.train.profile_steps={value}")
    with pytest.raises(UserError, match=r"train\.profile_steps must be empty or \(first, last\)"):
        train(config, tmp_path, evaluations=(), quiet=True)
