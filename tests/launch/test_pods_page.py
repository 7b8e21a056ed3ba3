"""docs/pods.md: its commands are accepted, and the messages that it quotes exist."""

import re
import shlex
from pathlib import Path

import pytest

from ditfuse_jax import cli
from ditfuse_jax.train import load_recipe
from ditfuse_jax.train.settings import resolve
from launch import Tpu
from launch.__main__ import main
from launch.job_spec import load_job_spec
from tests.quoted_messages import coverage, messages

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pods.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "launch" / "examples").glob("*.py"))

# Programs of others, whose commands cannot be checked here.
FOREIGN = ("gcloud", "kubectl", "docker", "hf")


def commands() -> list[list[str]]:
    """Returns the words of each command in the page's blocks."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


OWN = [words for words in commands() if words[0] not in FOREIGN]


def test_the_page_has_commands_of_known_programs_only():
    assert len(OWN) >= 15
    assert {words[0] for words in OWN} == {"python", "ditfuse"}


@pytest.mark.parametrize("words", OWN, ids=" ".join)
def test_every_command_of_this_project_is_accepted(words, fakes, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if words[:3] == ["python", "-m", "launch"]:
        assert "--dry-run" in words
        assert main(words[3:]) == 0
        assert capsys.readouterr().out
    else:  # these run for long: their arguments are parsed
        parser, _ = cli._parsers(words[1])
        arguments, rest = parser.parse_known_args(words[1:])
        assert arguments.command == words[1] and not rest
    assert not fakes.log.exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_settings_of_every_example_are_those_of_its_recipe(path):
    job = load_job_spec(path)
    if not job.command:
        recipe = resolve(load_recipe(job.config, job.overrides))
        slices = job.hardware.slices if isinstance(job.hardware, Tpu) else 1
        assert recipe.mesh.dcn_data == slices


def test_the_node_pool_is_that_of_the_example():
    tpu = load_job_spec(ROOT / "launch" / "examples" / "v6e_256.py").hardware
    assert isinstance(tpu, Tpu)
    (pool,) = [words for words in commands() if "node-pools" in words]
    options = dict(word[2:].split("=", 1) for word in pool if "=" in word)
    assert options["machine-type"] == tpu.machine
    assert options["tpu-topology"] == tpu.topology
    assert int(options["num-nodes"]) == tpu.hosts


def quoted() -> list[str]:
    """Returns the lines that the page says are printed, except those of other programs."""
    rows = [line.split(" | ") for line in PAGE.partition("## What goes wrong")[2].splitlines()]
    cells = [row[1] for row in rows if len(row) == 3]
    lines = [cell.strip("`").strip() for cell in cells if cell[0] == cell[-1] == "`"]
    return [line for line in lines if not line.startswith("denied: ")]


@pytest.mark.medium
def test_every_quoted_line_is_a_message_of_the_program():
    assert len(quoted()) >= 9
    for line in quoted():
        assert coverage(line) >= 0.7, line


def test_the_check_of_quotes_notices_a_message_that_was_changed():
    line = next(line for line in quoted() if "does not fit" in line)
    changed = line.replace("change the mesh factors", "choose other factors")
    assert not any(pattern.search(changed) for pattern in messages() if pattern.search(line))
