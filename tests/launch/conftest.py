"""Fake programs of a cluster, which record how they are called, and descriptions of jobs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import Gpu, JobSpec, Kubernetes, Tpu, TpuVm

FAKE = """
import json, os, subprocess, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([{name!r}, *sys.argv[1:], dict(os.environ)]) + "\\n")
{code}
"""


class Fakes:
    """A PATH that holds only fake programs: no test can reach a real cluster."""

    def __init__(self, folder: Path, write_program: Callable[[Path, str], None]):
        self.folder = folder
        self._write_program = write_program
        self.log = folder / "calls.jsonl"
        self.path = str(folder)

    def add(self, name: str, code: str = "", folder: Path | None = None) -> Path:
        """Writes a program that logs its call, then runs `code` (Python)."""
        program = (folder or self.folder) / name
        program.parent.mkdir(parents=True, exist_ok=True)
        self._write_program(program, FAKE.format(log=str(self.log), name=name, code=code))
        return program

    def calls(self, name: str) -> list[list[str]]:
        """Returns the arguments of each call."""
        return [call[1:-1] for call in self._notes() if call[0] == name]

    def environments(self, name: str) -> list[dict[str, str]]:
        """Returns the environment of each call."""
        return [call[-1] for call in self._notes() if call[0] == name]

    def _notes(self) -> list[list]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def fakes(tmp_path, monkeypatch, python_program) -> Fakes:
    fakes = Fakes(tmp_path / "bin", python_program)
    fakes.folder.mkdir()
    monkeypatch.setenv("PATH", fakes.path)
    return fakes


# Arguments that incorrect quoting would break.
NASTY = (
    "--config.a='single' \"double\" and  two spaces",
    "--config.b=$HOME $(id) `id` ${PATH} $$",
    "--config.c=a;b & c | d > e \\ * ? ! # ~ {x,y}",
    "--config.d=é €",
    "--config.e=",
)


@pytest.fixture
def nasty() -> dict:
    """Arguments, a folder and variables that must reach the training unchanged."""
    return {
        "overrides": NASTY,
        "workdir": "/shared/my 'own' \"run\" $HOME",
        "env": {"PLAIN": "1", "NASTY": "a 'b' \"c\" $(id) $PATH `id` \\"},
    }


@pytest.fixture
def gpu_job():
    """Builds a job on H100 nodes."""

    def build(**changes) -> JobSpec:
        fields = {
            "name": "run",
            "hardware": Gpu("h100", nodes=2),
            "config": "small",
            "workdir": "/shared/run",
            "repo": "/shared/repo",
            "image": "image:cuda",
            "kubernetes": Kubernetes(claims={"/shared": "shared"}),
        }
        return JobSpec(**fields | changes)

    return build


@pytest.fixture
def tpu_job():
    """Builds a job on TPUs."""

    def build(kind: str = "v5e", topology: str = "4x4", slices: int = 1, **changes) -> JobSpec:
        fields = {
            "name": "run",
            "hardware": Tpu(kind, topology, slices),
            "config": "small",
            "workdir": "/shared/run",
            "image": "image:tpu",
            "tpu_vm": TpuVm(zone="here-a", folders={"/shared": "/mnt/shared"}),
        }
        return JobSpec(**fields | changes)

    return build
