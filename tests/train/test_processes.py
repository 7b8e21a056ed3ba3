"""Several processes of one training: stopped, failing, killed and restarted."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.images import write_image
from ditfuse_jax.parallel.heartbeat import EXIT_LOST
from ditfuse_jax.train import train

pytestmark = pytest.mark.processes


def photos(folder: Path, good: bool = True) -> tuple[str]:
    """Writes four small images, or damaged files, and returns the override of the source."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        write_image(folder / f"{i}.png", rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        if not good:
            (folder / f"{i}.png").write_bytes(b"not an image")
    return (f"--config.data.mixture.photos.source={folder}",)


def ends(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Returns exit codes and standard error of finished processes."""
    said = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], said


def wait_for_step(step: int, folder: Path, losses, processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 240
    while step not in recorded(folder, losses):
        assert all(p.poll() is None for p in processes), ends(processes)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def recorded(folder: Path, losses) -> dict[int, float]:
    return losses(folder) if (folder / "metrics.jsonl").exists() else {}


def steps_saved(folder: Path) -> list[int]:
    """Returns the complete steps."""
    names = (path.name for path in (folder / "checkpoints").iterdir())
    return sorted(int(name) for name in names if name.isdigit())


def test_a_signal_to_one_makes_all_save_the_same_step_and_end(start_group, losses, tmp_path):
    run = tmp_path / "run"
    pair = start_group(run, 2, "--config.train.steps=5000")
    wait_for_step(2, run, losses, pair)
    pair[1].send_signal(signal.SIGTERM)
    codes, said = ends(pair)
    assert codes == [143, 143], said
    (step,) = steps_saved(run)
    assert f"step {step} of 5000 is saved" in said[0]
    assert sorted(losses(run)) == list(range(1, step + 1))


@pytest.mark.slow
def test_bad_data_of_one_ends_all_with_its_message(start_group, tmp_path):
    sources = [photos(tmp_path / "good"), photos(tmp_path / "bad", good=False)]
    pair = start_group(tmp_path / "run", 2, own=lambda index: sources[index])
    codes, said = ends(pair)
    assert codes == [2, 2], said
    for text in said:
        last = text.splitlines()[-1]
        assert "error: process 1 of 2" in last and "/bad" in last and "cannot" in last


STALLS = """
import os
import time
from pathlib import Path
from ditfuse_jax.tasks import M3, TASKS

class StallingM3(M3):
    def __call__(self, *arguments):
        while os.environ["JAX_PROCESS_ID"] == "1" and Path(__file__).with_name("stall").exists():
            time.sleep(0.1)
        return super().__call__(*arguments)

TASKS.register("stalling_m3", StallingM3())
"""


@pytest.mark.slow
def test_slow_data_of_one_is_reported_and_then_ends_all(start_group, losses, tmp_path):
    run, extension = tmp_path / "run", tmp_path / "stalls.py"
    extension.write_text(STALLS)
    task = ("--import", str(extension), "--config.data.mixture.photos.task=stalling_m3")
    limits = ("--config.train.steps=5000", "--config.train.data_timeout=15")
    pair = start_group(run, 2, *task, *photos(tmp_path / "good"), *limits)
    wait_for_step(1, run, losses, pair)
    (tmp_path / "stall").touch()
    codes, said = ends(pair)
    assert codes == [2, 2], said
    assert "process 1 of 2" in said[0] and "has been at data for" in said[0]
    for text in said:
        last = text.splitlines()[-1]
        assert "error: process 1 of 2" in last and "no batch arrived within 15 s" in last


HOSTS = """
import time
import jax
from ditfuse_jax.train import CALLBACKS

def freezes():
    time.sleep(600)

@CALLBACKS.register("hosts")
def hosts(recipe):
    def callback(context):
        if jax.process_index() == 2:
            time.sleep(3.0)
        if jax.process_index() == 1 and (context.run.path / "freeze").exists():
            freezes()
    return callback
"""


@pytest.mark.slow
def test_of_four_processes_the_slow_and_the_frozen_one_are_named_and_all_write_their_stacks(
    start_group, losses, tmp_path
):
    run, extension = tmp_path / "run", tmp_path / "hosts.py"
    extension.write_text(HOSTS)
    arguments = ("--import", str(extension), "--config.train.callbacks=('hosts',)")
    limits = ("--config.train.steps=5000", "--config.train.hang_timeout=90")
    four = start_group(run, 4, *arguments, *limits)
    wait_for_step(6, run, losses, four)
    four[3].send_signal(signal.SIGUSR1)
    wait_for_step(15, run, losses, four)
    (run / "freeze").touch()
    codes, said = ends(four)
    assert codes == [EXIT_LOST] * 4, said
    slow = [line for line in said[0].splitlines() if "is slow" in line]
    assert slow and all("process 2 of 4" in line and "(callback " in line for line in slow)
    for text in said:
        last = text.splitlines()[-1]
        assert "error: process 1 of 4" in last and "has been at callback" in last
    files = {path.name: path.read_text() for path in (run / "stacks").rglob("*.txt")}
    assert sorted(files) == [f"process-{i}.txt" for i in range(4)]
    assert [name for name, text in files.items() if "freezes" in text] == ["process-1.txt"]
    traces = sorted(path.name for path in (run / "profiles").rglob("*.pb"))
    assert traces == [f"process-{i}.xplane.pb" for i in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 3])
def test_losses_continue_after_a_kill_and_restarts_on_one_and_four_processes(
    victim, start_group, tiny, losses, tmp_path
):
    run, whole = tmp_path / "run", tmp_path / "whole"
    every = ("--config.train.checkpoint_every=2",)
    four = start_group(run, 4, *every, "--config.train.steps=5000")
    wait_for_step(5, run, losses, four)
    four[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    codes, said = ends(four)
    assert time.monotonic() - killed < 40
    assert codes.pop(victim) == -signal.SIGKILL
    said.pop(victim)
    assert set(codes) <= {EXIT_LOST, -signal.SIGABRT}, said
    for text in said if victim else ():  # JAX aborts those who have lost process 0
        last = text.splitlines()[-1]
        assert f"process {victim} of 4" in last and "is lost" in last
    saved = max(steps_saved(run))
    for count, last in ((1, saved + 1), (4, saved + 3)):
        codes, said = ends(start_group(run, count, *every, f"--config.train.steps={last}"))
        assert codes == [0] * count, said
    train(tiny(*every, f"--config.train.steps={saved + 3}"), whole, evaluations=(), quiet=True)
    assert sorted(losses(run)) == list(range(1, saved + 4))
    found, expected = losses(run), losses(whole)
    np.testing.assert_allclose(
        [found[step] for step in sorted(found)],
        [expected[step] for step in sorted(found)],
        rtol=1e-4,
    )
