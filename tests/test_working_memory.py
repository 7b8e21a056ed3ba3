"""Freed memory stays with the process, and only where that helps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ditfuse_jax import working_memory
from ditfuse_jax.working_memory import keep_working_memory


@pytest.fixture
def kept(monkeypatch) -> list[bool]:
    """Replaces the change of this process by a record of it."""
    calls = []
    monkeypatch.setattr(working_memory, "_keep", lambda: calls.append(True) or True)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    return calls


@pytest.fixture
def devices(tmp_path):
    """The devices of a host without accelerators."""
    (tmp_path / "null").touch()
    return tmp_path


def test_a_host_without_accelerators_keeps_memory(kept, devices):
    assert keep_working_memory(devices)
    assert kept


def test_what_the_user_decided_about_memory_stays(kept, devices, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert not keep_working_memory(devices)
    assert not kept


def test_other_tunables_do_not_matter(kept, devices, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.rtld.nns=4")
    assert keep_working_memory(devices)


@pytest.mark.parametrize("device", ["nvidia0", "accel3", "vfio/7", "kfd"])
def test_the_host_of_an_accelerator_returns_memory(kept, devices, device, monkeypatch):
    (devices / device).parent.mkdir(exist_ok=True)
    (devices / device).touch()
    assert not keep_working_memory(devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert keep_working_memory(devices)


def test_a_driver_without_a_device_is_no_accelerator(kept, devices):
    for name in ("nvidiactl", "vfio/vfio"):
        (devices / name).parent.mkdir(exist_ok=True)
        (devices / name).touch()
    assert keep_working_memory(devices)


@pytest.mark.parametrize("library", ["musl", "", None])
def test_another_c_library_is_left_alone(devices, monkeypatch, library):
    monkeypatch.setattr(working_memory, "_libc_version", lambda: library)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert not keep_working_memory(devices)


_FAULTS = """
import resource, sys
from pathlib import Path
from ditfuse_jax.working_memory import keep_working_memory, return_working_memory
assert sys.argv[1] == "usual" or keep_working_memory(Path(sys.argv[2]))
if sys.argv[1] == "returned":
    return_working_memory()
import numpy as np
np.ones(2**26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(2**26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.processes
@pytest.mark.skipif("glibc" not in (working_memory._libc_version() or ""), reason="not glibc")
def test_memory_that_was_used_once_causes_no_further_page_faults_unless_it_is_returned(devices):
    """Blocks of 64 MiB: by default each causes 32 page faults (2 MiB) to 16,384 (4 KiB)."""
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    faults = {}
    for mode in ("kept", "usual", "returned"):
        command = [sys.executable, "-c", _FAULTS, mode, str(devices)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        faults[mode] = int(done.stdout)
    assert faults["kept"] < 16 < min(faults["usual"], faults["returned"])
