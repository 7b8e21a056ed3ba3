"""Programs that machines would have: they only write down what they were called with."""

import json
import sys
from pathlib import Path

import pytest

from launch import Gpu, Job, Kubernetes, Tpu, TpuVm

FAKE = """#!{python}
import json, os, subprocess, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([{name!r}, *sys.argv[1:], dict(os.environ)]) + "\\n")
{code}
"""


class Fakes:
    """A PATH on which nothing is but fakes: no real cluster can be reached from a test."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "calls.jsonl"
        self.path = str(folder)

    def add(self, name: str, code: str = "", folder: Path | None = None) -> Path:
        """Makes a program that notes its call, then does `code` (Python)."""
        program = (folder or self.folder) / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            FAKE.format(python=sys.executable, log=str(self.log), name=name, code=code)
        )
        program.chmod(0o755)
        return program

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call."""
        return [call[1:-1] for call in self._notes() if call[0] == name]

    def environments(self, name: str) -> list[dict[str, str]]:
        """The environment of each call."""
        return [call[-1] for call in self._notes() if call[0] == name]

    def _notes(self) -> list[list]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def fakes(tmp_path, monkeypatch) -> Fakes:
    fakes = Fakes(tmp_path / "bin")
    fakes.folder.mkdir()
    monkeypatch.setenv("PATH", fakes.path)
    return fakes


# Words that a careless launcher would break.
NASTY = (
    "--config.a='single' \"double\" and  two spaces",
    "--config.b=$HOME $(id) `id` ${PATH} $$",
    "--config.c=a;b & c | d > e \\ * ? ! # ~ {x,y}",
    "--config.d=é €",
    "--config.e=",
)


@pytest.fixture
def nasty() -> dict:
    """What a description must carry unharmed: words, a folder and variables."""
    return {
        "overrides": NASTY,
        "workdir": "/shared/my 'own' \"run\" $HOME",
        "env": {"PLAIN": "1", "NASTY": "a 'b' \"c\" $(id) $PATH `id` \\"},
    }


@pytest.fixture
def gpu_job():
    """Builds a job on H100 nodes."""

    def build(**changes) -> Job:
        fields = {
            "name": "run",
            "hardware": Gpu("h100", nodes=2),
            "config": "small",
            "workdir": "/shared/run",
            "repo": "/shared/repo",
            "image": "image:cuda",
            "kubernetes": Kubernetes(claims={"/shared": "shared"}),
        }
        return Job(**fields | changes)

    return build


@pytest.fixture
def tpu_job():
    """Builds a job on TPUs."""

    def build(kind: str = "v5e", topology: str = "4x4", slices: int = 1, **changes) -> Job:
        fields = {
            "name": "run",
            "hardware": Tpu(kind, topology, slices),
            "config": "small",
            "workdir": "/shared/run",
            "image": "image:tpu",
            "tpu_vm": TpuVm(zone="here-a", folders={"/shared": "/mnt/shared"}),
        }
        return Job(**fields | changes)

    return build
