"""If one process stops, all stop and report why; with real processes, without a model."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ditfuse_jax.parallel.heartbeat import EXIT_LOST, exit_together

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]

# Has short timeouts and prints `ready` once all have heartbeats; the code of a case is indented.
PROGRAM = """
import os, sys, time
from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import heartbeat
from ditfuse_jax.parallel.activity import PROFILE_REQUESTS, Activity
from ditfuse_jax.parallel.processes import initialize
heartbeat.LOST_AFTER, heartbeat.NOTICE_AFTER = 4.0, 2.0
initialize()
index = int(os.environ["JAX_PROCESS_ID"])
doing = ["step", time.monotonic()]
with heartbeat.exit_together("work"):
    heartbeat.watch(lambda: Activity(*doing))
    time.sleep(2.5)
    print("ready", flush=True)
"""
WAIT = "    time.sleep(60)\n"


@pytest.fixture
def start():
    """Returns a function that starts processes with the same code; kills them at the end."""
    processes = []

    def begin(code: str, count: int = 2, *arguments: object) -> list[subprocess.Popen]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        shared = {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": address}
        shared["JAX_NUM_PROCESSES"] = str(count)
        processes.extend(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM + code, *map(str, arguments)],
                cwd=ROOT,
                env=os.environ | shared | {"JAX_PROCESS_ID": str(i)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        )
        return processes

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def last_lines(processes: list[subprocess.Popen]) -> list[str]:
    return [process.communicate(timeout=60)[1].splitlines()[-1] for process in processes]


def kill(processes: list[subprocess.Popen], index: int, how: int = signal.SIGKILL) -> float:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1][-2000:]
    processes[index].send_signal(how)
    return time.monotonic()


def test_a_single_process_raises_errors_unchanged():
    with pytest.raises(KeyError), exit_together("work"):
        raise KeyError


def test_a_user_error_in_one_process_exits_all_with_its_name_and_code_2(start):
    both = start("    if index: raise UserError('no such folder')\n" + WAIT)
    lines = last_lines(both)
    assert lines == [f"work: error: process 1 of 2 ({socket.gethostname()}): no such folder"] * 2
    assert [process.returncode for process in both] == [2, 2]


def test_an_exception_in_one_process_exits_all_and_only_that_one_prints_a_traceback(start):
    first, second = start("    if index == 0: 1 / 0\n" + WAIT)
    (_, first_log), (_, second_log) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert "Traceback" in first_log and "Traceback" not in second_log
    for text in (first_log, second_log):
        assert "failed: ZeroDivisionError: division by zero" in text.splitlines()[-1]
    assert first.returncode == second.returncode == 1


@pytest.mark.slow
def test_a_process_that_others_wait_for_is_reported_and_all_end_together(start):
    code = "    doing[:] = 'data' if index else 'step', time.monotonic()\n"
    both = start(code + "    time.sleep(5 * index)\nprint(time.time())\n")
    (first, log), (second, other_log) = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert abs(float(first.split()[-1]) - float(second.split()[-1])) < 2
    (line,) = [line for line in log.splitlines() if "others wait" in line]
    assert line.startswith("work: process 1 of 2") and "has been at data for" in line
    assert "others wait" not in other_log


HANGS = """
    from pathlib import Path
    heartbeat.watch(lambda: Activity(*doing), Path(sys.argv[1]), float(sys.argv[2]))
    def sleeps_forever():
        doing[:] = "callback", time.monotonic()
        time.sleep(60)
    if index == 2: sleeps_forever()
    doing[:] = "step", time.monotonic()
    time.sleep(60)
"""


def stacks(folder: Path) -> dict[str, str]:
    """Returns the files of the only dump: name -> text."""
    (dump,) = folder.iterdir()
    return {path.name: path.read_text() for path in dump.iterdir()}


def test_a_process_that_hangs_ends_all_with_its_name_and_the_stacks_of_all(start, tmp_path):
    four = start(HANGS, 4, tmp_path, 3)
    lines = last_lines(four)
    assert len(set(lines)) == 1
    assert "error: process 2 of 4" in lines[0] and "has been at callback for" in lines[0]
    assert str(tmp_path) in lines[0]
    assert [process.returncode for process in four] == [EXIT_LOST] * 4
    found = stacks(tmp_path)
    assert sorted(found) == [f"process-{i}.txt" for i in range(4)]
    assert [name for name, text in found.items() if "sleeps_forever" in text] == ["process-2.txt"]
    assert all("MainThread" in text and "heartbeat.py" in text for text in found.values())


@pytest.mark.slow
def test_a_frozen_process_is_named_and_the_others_write_their_stacks(start, tmp_path):
    four = start(HANGS, 4, tmp_path, 0)
    kill(four, 3, signal.SIGSTOP)
    lines = last_lines(four[:3])
    for line in lines:
        assert "error: process 3 of 4" in line and "is lost: no heartbeat" in line
    assert sorted(stacks(tmp_path)) == [f"process-{i}.txt" for i in range(3)]


def test_a_single_process_that_hangs_ends_too(start, tmp_path):
    (alone,) = start(HANGS.replace("index == 2", "index == 0"), 1, tmp_path, 2)
    (line,) = last_lines([alone])
    assert "error: process 0 of 1" in line and "has been at callback for" in line
    assert alone.returncode == EXIT_LOST
    assert "sleeps_forever" in stacks(tmp_path)["process-0.txt"]


@pytest.mark.slow
def test_compiled_code_that_holds_python_s_lock_is_shown_in_the_log(start, tmp_path):
    # ctypes.PyDLL keeps the lock during a call: neither thread of Python can run.
    code = "    import ctypes\n    def blocks(): ctypes.PyDLL(None).sleep(12)\n"
    blocked, _ = reversed(start(code + "    if index: blocks()\n" + WAIT))
    _, log = blocked.communicate(timeout=60)
    assert "in blocks" in log and "Timeout" in log


def test_a_slow_process_is_named_with_what_it_waits_for(start):
    code = """
    from ditfuse_jax.parallel import slow_processes
    slow_processes.WINDOW = 3.0
    begin, data = time.monotonic(), 0.9 if index == 2 else 0.1
    def activity():
        now = time.monotonic()
        steps = int(10 * (now - begin))
        return Activity("step", now, steps, {"data": steps * 0.1 * data, "other": 0.0})
    heartbeat.watch(activity)
    time.sleep(5)
"""
    four = start(code, 4)
    said = [process.communicate(timeout=60)[1] for process in four]
    line = next(line for line in said[0].splitlines() if "is slow" in line)
    assert line.startswith("work: process 2 of 4") and "(data 0.09 s)" in line
    assert not any("is slow" in text for text in said[1:])


@pytest.mark.slow
def test_a_request_for_a_profile_reaches_all_processes(start):
    code = """
    if index == 1: os.kill(os.getpid(), 10)  # SIGUSR1
    time.sleep(4)
    print(PROFILE_REQUESTS.is_open())
    PROFILE_REQUESTS.answer()
    print(PROFILE_REQUESTS.is_open())
"""
    said = [process.communicate(timeout=60)[0] for process in start(code, 3)]
    assert [text.split()[-2:] for text in said] == [["True", "False"]] * 3


@pytest.mark.slow
def test_a_killed_process_is_reported_by_name(start):
    processes = start(WAIT, count=3)
    since = kill(processes, 1)
    killed, *survivors = processes[1], processes[0], processes[2]
    lines = last_lines(survivors)
    assert time.monotonic() - since < 20
    for line in lines:
        assert "error: process 1 of 3" in line and "is lost" in line
    assert [process.returncode for process in survivors] == [EXIT_LOST, EXIT_LOST]
    assert killed.wait() == -signal.SIGKILL


def test_a_process_whose_peers_never_start_ends_with_a_line_that_says_so():
    code = "from ditfuse_jax.parallel import processes\nprocesses.INITIALIZATION_TIMEOUT = 2\n"
    address = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:9", "JAX_NUM_PROCESSES": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code + "processes.initialize()"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_PROCESS_ID": "1"} | address,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_LOST
    last = done.stderr.splitlines()[-1]
    assert "process 1 of 2 did not meet the others at 127.0.0.1:9 within 2 s" in last


def test_without_process_0_the_others_end_at_once_with_a_message(start):
    processes = start(WAIT)
    since = kill(processes, 0)
    _, text = processes[1].communicate(timeout=60)
    assert time.monotonic() - since < 20
    assert "coordination service" in text or "process 0 of 2 is lost" in text
    assert processes[1].returncode in (-signal.SIGABRT, EXIT_LOST)
