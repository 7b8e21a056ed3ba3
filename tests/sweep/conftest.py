"""A stand-in for the `ditfuse` command, and plans for it to work on."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ditfuse_jax.evaluate.metrics import METRICS, Metric
from ditfuse_jax.sweep import Sweep
from ditfuse_jax.sweep.plan import Plan, make_plan

# Trains in no time: quality is the learning rate's thousands plus the seed.  Warm-up steps tell it
# to fail (13), to wait until it is asked to stop (14), to end without an evaluation (15).
FAKE = """
import json, os, pathlib, signal, sys, time
log, command, *words = sys.argv[1:]
values = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
with open(log, "a") as file:
    entry = [command, words, time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES")]
    file.write(json.dumps(entry) + "\\n")
def option(name):
    return pathlib.Path(words[words.index(name) + 1])
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
    """Metrics that no table of metrics need have; other tests do not meet them."""
    facts: dict[str, tuple[str, str, Any]] = {
        "quality": ("Quality", "dB", "higher"),
        "error": ("Error", "levels²", "lower"),
        "bias": ("Bias", "", "zero"),
        "detail": ("Detail", "bits", "higher"),
        "spread": ("Spread", "levels", "higher"),
    }
    for name, (title, unit, direction) in facts.items():
        made = Metric(name, title, lambda _: None, direction=direction, unit=unit)
        monkeypatch.setitem(METRICS, name, made)


class Fake:
    """The stand-in: what it was called with."""

    def __init__(self, folder: Path):
        program, self._log = folder / "ditfuse.py", folder / "calls.jsonl"
        program.write_text(FAKE)
        self.command = (sys.executable, "-S", "-E", str(program), str(self._log))

    def calls(self) -> list[list]:
        """Command, words, time and devices of each call."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def forget(self) -> None:
        """Begins to count anew."""
        self._log.unlink(missing_ok=True)


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Fake:
    made = Fake(tmp_path)
    monkeypatch.setattr("ditfuse_jax.sweep.local.DITFUSE", made.command)
    return made


def words(rate: float, *more: str) -> tuple[str, ...]:
    return (f"--config.optimizer.learning_rate={rate}", *more)


SETTINGS = {"slow": words(0.001), "fast": words(0.003)}


@pytest.fixture
def plan(tmp_path):
    """Plans a sweep of the nano recipe, three steps long."""

    def build(settings=None, **changes) -> Plan:
        fields = {"recipe": "nano_m3", "overrides": ("--config.train.steps=3",)} | changes
        return make_plan(Sweep(settings or SETTINGS, **fields), tmp_path / "sweep")

    return build
