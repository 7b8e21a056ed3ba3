"""Asking the C library to keep working memory, once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ditfuse_jax.working_memory import wanted

LARGE = "glibc.malloc.hugetlb=1"
KEPT = (
    f"{LARGE}:glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold={2**40}"
    f":glibc.malloc.trim_threshold={2**40}"
)


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """The devices of a host without accelerators, under a C library that can keep memory."""
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36")
    (tmp_path / "null").touch()
    return tmp_path


def test_a_process_starts_again_with_memory_that_is_kept(devices):
    assert wanted({"HOME": "/h"}, devices) == {"HOME": "/h", "GLIBC_TUNABLES": KEPT}


def test_other_tunables_stay(devices):
    found = wanted({"GLIBC_TUNABLES": "glibc.rtld.nns=4"}, devices)
    assert found == {"GLIBC_TUNABLES": f"glibc.rtld.nns=4:{KEPT}"}


def test_a_process_that_started_again_goes_on(devices):
    again = wanted({}, devices)
    assert again is not None and wanted(again, devices) is None


def test_what_the_user_decided_about_memory_stays(devices):
    assert wanted({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, devices) is None


@pytest.mark.parametrize("device", ["nvidia0", "accel3", "vfio/7", "kfd"])
def test_the_host_of_an_accelerator_gives_memory_back(devices, device):
    (devices / device).parent.mkdir(exist_ok=True)
    (devices / device).touch()
    assert wanted({}, devices) == {"GLIBC_TUNABLES": LARGE}
    on_cpu = {"JAX_PLATFORMS": "cpu"}
    assert wanted(on_cpu, devices) == {**on_cpu, "GLIBC_TUNABLES": KEPT}


def test_a_driver_without_a_device_is_no_accelerator(devices):
    for name in ("nvidiactl", "vfio/vfio"):
        (devices / name).parent.mkdir(exist_ok=True)
        (devices / name).touch()
    assert wanted({}, devices) == {"GLIBC_TUNABLES": KEPT}


@pytest.mark.parametrize("library", ["glibc 2.31", "musl", ""])
def test_another_c_library_is_not_asked(devices, monkeypatch, library):
    monkeypatch.setattr(os, "confstr", lambda _: library)
    assert wanted({}, devices) is None


@pytest.mark.processes
def test_the_words_of_the_command_and_its_exit_code_survive(tmp_path, devices):
    """The real thing: a process that starts itself again as the console command does."""
    script = tmp_path / "command.py"
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ditfuse_jax import working_memory\n"
        "os.confstr = lambda _: 'glibc 2.36'\n"
        f"working_memory.keep_working_memory(Path({str(devices)!r}))\n"
        "print(os.getpid(), os.environ['GLIBC_TUNABLES'], sys.argv[1:], flush=True)\n"
        "sys.exit(7)\n"
    )
    variables = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), "train", "two words", "--x=1"],
        env=variables | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert said == f"{process.pid} {KEPT} {['train', 'two words', '--x=1']}\n"


_FAULTS = """
import resource, sys
import numpy as np
np.ones(2**26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(2**26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.processes
def test_memory_that_was_given_once_is_not_given_again():
    """Sixty-four MiB, again and again: without the settings each time is 32 to 16,384 faults."""
    environment = wanted({k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"})
    if environment is None:
        pytest.skip("not glibc 2.35 or newer")
    environment["GLIBC_TUNABLES"] = KEPT
    command = [sys.executable, "-c", _FAULTS]
    kept = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    del environment["GLIBC_TUNABLES"]
    usual = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(kept.stdout) < 16 < int(usual.stdout)
