"""The instructions of the container image, parsed without docker."""

import configparser
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage; the first list holds those before the first stage."""
    text = (ROOT / "launch" / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found: list[list[tuple[str, str]]] = [[]]
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            assert name in INSTRUCTIONS, line
            if name == "FROM":
                found.append([])
            found[-1].append((name, rest.strip()))
    return found


def copied(stages) -> list[str]:
    """Returns what is copied from the repository."""
    return [
        word
        for stage in stages
        for name, rest in stage
        if name == "COPY" and not rest.startswith("--from=")
        for word in rest.split()[:-1]
    ]


def test_copied_paths_exist_and_are_not_ignored(stages):
    ignored = (ROOT / "launch" / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert set(copied(stages)) == let_in
    for name in let_in:
        assert (ROOT / name).exists()
        assert not fnmatch(name, "*__pycache__*")


def test_the_package_and_its_pins_are_copied(stages):
    names = copied(stages)
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    folders = {
        line.partition("=")[2].strip()
        for line in setup["options"]["package_dir"].splitlines()
        if line.strip()
    }
    assert folders <= set(names)
    assert {"setup.cfg", "pyproject.toml", "constraints.txt"} <= set(names)
    (install,) = [rest for stage in stages for name, rest in stage if "pip install" in rest]
    assert "--constraint constraints.txt" in install


def test_its_extras_are_those_of_the_package(stages):
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    assert {"cuda", "tpu"} <= set(setup["options.extras_require"])
    assert ("ARG", 'EXTRA=""') in stages[1]


def test_the_last_stage_has_no_sources_and_no_root(stages):
    last = stages[-1]
    assert [rest for name, rest in last if name == "COPY"] == [
        "--from=build /opt/ditfuse /opt/ditfuse"
    ]
    (user,) = [rest for name, rest in last if name == "USER"]
    assert user.split(":")[0] not in ("0", "root")
    # Kubernetes' volumes are made writable for this group.
    assert user == "1000:1000"
    assert ("ENTRYPOINT", '["ditfuse"]') in last


def test_stages_use_the_same_python_and_constraints_cover_it(stages):
    (argument,) = stages[0]
    assert argument[0] == "ARG"
    froms = [stage[0][1] for stage in stages[1:]]
    assert froms == ["python:${PYTHON}-slim AS build", "python:${PYTHON}-slim"]
    major, minor = argument[1].removeprefix("PYTHON=").split(".")
    assert (int(major), int(minor)) >= (3, 11)
