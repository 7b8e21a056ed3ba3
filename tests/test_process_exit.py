"""How a process ends."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

START = "import atexit, sys, threading, time\nfrom ditfuse_jax.process_exit import exit_quickly\n"


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_quick_exit_does_what_is_registered_writes_all_output_and_frees_nothing():
    code = (
        "class Freed:\n    def __del__(self): print('freed')\n"
        "kept = Freed()\n"
        "atexit.register(print, 'registered')\n"
        "sys.stdout.write('text ')\n"
        "exit_quickly(3)\n"
    )
    done = run(code)
    assert (done.returncode, done.stdout) == (3, "text registered\n")


def test_a_quick_exit_waits_for_a_thread_that_is_no_daemon():
    code = (
        "def work():\n    time.sleep(0.5)\n    print('done')\n"
        "threading.Thread(target=work, daemon={daemon}).start()\n"
        "exit_quickly(0)\n"
    )
    assert run(code.format(daemon=False)).stdout == "done\n"
    assert run(code.format(daemon=True)).stdout == ""


def test_without_a_way_to_do_what_is_registered_the_exit_is_normal():
    code = "del atexit._run_exitfuncs\natexit.register(print, 'registered')\nexit_quickly(3)\n"
    done = run(code)
    assert (done.returncode, done.stdout) == (3, "registered\n")
