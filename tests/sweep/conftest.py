"""A fake `ditfuse` command, and sweep plans that it can run."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ditfuse_jax.evaluate.metrics import METRICS, Metric
from ditfuse_jax.sweep import Sweep
from ditfuse_jax.sweep.plan import SweepPlan, make_plan

# Finishes immediately: quality is 1000 x learning rate + seed.  The number of warm-up steps selects
# a behaviour: fail (13), wait for a signal (14), end without an evaluation (15).
FAKE = """
import json, os, pathlib, signal, sys, time
log, command, *arguments = sys.argv[1:]
values = dict(item.removeprefix("--").split("=", 1) for item in arguments if "=" in item)
with open(log, "a") as file:
    entry = [command, arguments, time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES")]
    file.write(json.dumps(entry) + "\\n")
def option(name):
    return pathlib.Path(arguments[arguments.index(name) + 1])
if command == "evaluate":
    folder = option("--output")
    folder.mkdir(parents=True, exist_ok=True)
    steps = float(values.get("steps", 0))
    if steps == 13:
        print("Traceback\\nValueError: unlucky", file=sys.stderr)
        sys.exit(1)
    content = {"quality": {"fused": steps + float(values.get("seed", 0)), "mean": 1.0}, "count": 1}
    (folder / "report.json").write_text(json.dumps(content))
    sys.exit(0)
folder, kind = option("--workdir"), values.get("config.optimizer.warmup_steps")
folder.mkdir(parents=True, exist_ok=True)
if kind == "13":
    print("step 1\\rstep 2\\nValueError: unlucky\\n", file=sys.stderr)
    sys.exit(1)
if kind == "14" and not (folder / "saved").exists():
    def stop(*_):
        (folder / "saved").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    (folder / "waiting").touch()
    time.sleep(60)
steps = int(values["config.train.steps"])
score = 1000 * float(values.get("config.optimizer.learning_rate", 0)) + int(values["config.seed"])
lines = [{"step": step, "loss": score / step} for step in range(1, steps + 1)]
if kind != "15":
    lines.append({"step": steps, "eval/quality": score, "eval/quality_of_mean": 1.0})
(folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
(folder / "checkpoints" / str(steps)).mkdir(parents=True, exist_ok=True)
time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers metrics for the tests of this folder only."""
    facts: dict[str, tuple[str, str, Any]] = {
        "quality": ("Quality", "dB", "higher"),
        "error": ("Error", "levels²", "lower"),
        "bias": ("Bias", "", "zero"),
        "detail": ("Detail", "bits", "higher"),
        "spread": ("Spread", "levels", "higher"),
    }
    for name, (title, unit, direction) in facts.items():
        made = Metric(name, title, lambda _: None, direction=direction, unit=unit)
        monkeypatch.setitem(METRICS._entries, name, made)


class Fake:
    """The fake command and a log of its calls."""

    def __init__(self, folder: Path):
        program, self._log = folder / "ditfuse.py", folder / "calls.jsonl"
        program.write_text(FAKE)
        self.command = (sys.executable, "-S", "-E", str(program), str(self._log))

    def calls(self) -> list[list]:
        """Returns command, arguments, time and devices of each call."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def forget(self) -> None:
        """Clears the log."""
        self._log.unlink(missing_ok=True)


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Fake:
    made = Fake(tmp_path)
    monkeypatch.setattr("ditfuse_jax.sweep.local.DITFUSE", made.command)
    return made


def overrides(rate: float, *more: str) -> tuple[str, ...]:
    return (f"--config.optimizer.learning_rate={rate}", *more)


SETTINGS = {"slow": overrides(0.001), "fast": overrides(0.003)}


@pytest.fixture
def plan(tmp_path):
    """Plans a sweep of the nano recipe, three steps long."""

    def build(settings=None, folder=tmp_path / "sweep", **changes) -> SweepPlan:
        fields = {"recipe": "nano_m3", "overrides": ("--config.train.steps=3",)} | changes
        return make_plan(Sweep(settings or SETTINGS, **fields), folder)

    return build
