"""Commands with addresses on the Hub, and that nothing else asks a network."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.cli import main
from ditfuse_jax.resources import resource


@pytest.fixture
def small(hub_server) -> str:
    """Puts the bundled model on the Hub; returns its commit."""
    folder = resource("data", "small")
    names = ("LICENSE", "model.safetensors", "recipe.json")
    return hub_server.add("lab/small", {name: (folder / name).read_bytes() for name in names})


def ditfuse(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ditfuse_jax", *arguments],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.processes
@pytest.mark.medium
@pytest.mark.slow
def test_a_pair_is_fused_with_a_model_of_the_hub_then_without_a_network(
    hub_server, small, pair, tmp_path
):
    out = tmp_path / "fused.png"
    command = ["fuse", *map(str, pair), "-o", str(out), "--checkpoint", "hf://lab/small"]
    done = ditfuse(*command, "--steps", "1")
    assert done.returncode == 0, done.stderr
    assert hub_server.downloads() == ["LICENSE", "model.safetensors", "recipe.json"]
    # Progress is for terminals.
    assert "Traceback" not in done.stderr and "Fetching" not in done.stderr, done.stderr
    first = Image.open(out)
    assert first.info["checkpoint"] == f"hf://lab/small@{small}"
    hub_server.close()
    again = ditfuse(*command, "--steps", "1", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    second = Image.open(out)
    assert second.info["checkpoint"] == first.info["checkpoint"]
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "hf://lab/none"], "hf://lab/none: no such repository"),
        (["--checkpoint", "hf://lab/small@v2"], "no branch, tag or commit 'v2'"),
        (["--checkpoint", "hf://lab"], "hf://lab is not the address of a model"),
        (["--checkpoint", "hf://lab/gated"], "the repository is gated"),
        (["--checkpoint", "hf://lab/pickle"], "hf://lab/pickle holds only pickles"),
        (["--lora", "hf://lab/small"], "no adapter in"),
        (["--lora", "hf://lab/none=0.5"], "hf://lab/none: no such repository"),
        (["--checkpoint", "hf://lab/adapter", "--base", "hf://lab/none"], "hf://lab/none: no such"),
    ],
)
def test_a_model_that_cannot_be_downloaded_is_one_line_and_exit_code_2(
    hub_server, small, pair, tmp_path, capsys, arguments, message
):
    hub_server.add("lab/gated", {"model.safetensors": b"x"}, gated=True)
    hub_server.add("lab/pickle", {"config.json": b"{}", "model.pt": b"x"})
    hub_server.add("lab/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"})
    command = ["fuse", *map(str, pair), "-o", str(tmp_path / "out.png")]
    assert main([*command, *arguments]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("ditfuse")]
    assert message in line
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config", "nano_m3", "--workdir", "hf://lab/run"],
        ["fuse", "hf://lab/a.png", "b.png", "-o", "c.png"],
        ["fuse", "a.png", "b.png", "-o", "hf://lab/c.png"],
        ["convert", "small", "-o", "hf://lab/out"],
        ["prepare", "hf://lab/photos", "-o", "out"],
        ["prepare", "photos", "-o", "hf://lab/out"],
        ["evaluate", "--checkpoint", "small", "--data", "hf://lab/photos", "-o", "out"],
        [
            *("train", "--config", "nano_m3", "--workdir", "run"),
            "--config.data.mixture.photos.source=hf://lab/photos",
        ],
    ],
    ids=" ".join,
)
def test_an_address_where_no_model_is_expected_is_refused_and_nothing_is_made(
    hub_server, tmp_path, monkeypatch, capsys, arguments
):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("ditfuse")]
    assert "hf:" in line
    assert list(tmp_path.iterdir()) == [] and hub_server.requests == []


# Every connection and every look-up of a name goes through these events of CPython.
WATCH = """
import sys
asked = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        if not isinstance(arguments[-1], str):  # not a Unix socket
            asked.append((event, repr(arguments)))
sys.addaudithook(watch)
from ditfuse_jax.cli import main
for arguments in {commands!r}:
    code = main(arguments)
    assert code == 0, arguments
assert not asked, asked
print("asked nothing")
"""


@pytest.mark.processes
@pytest.mark.medium
@pytest.mark.slow
def test_without_an_address_nothing_asks_a_network(hub_server, pair, tmp_path, tiny_overrides):
    images = list(map(str, pair))
    commands = [
        ["fuse", *images, "-o", str(tmp_path / "fused.png"), "--steps", "1"],
        ["convert", "small", "-o", str(tmp_path / "bundle"), "--to", "bundle"],
        [
            *("train", "--config", "nano_m3", "--workdir", str(tmp_path / "run")),
            *(*tiny_overrides, "--config.train.steps=1", "--config.evaluations.held_out.count=1"),
        ],
    ]
    done = subprocess.run(
        [sys.executable, "-c", WATCH.format(commands=commands)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.endswith("asked nothing\n"), done.stderr[-3000:]
    assert hub_server.requests == []


def test_the_watch_sees_a_connection():
    space: dict[str, Any] = {}
    exec(WATCH.partition("sys.addaudithook")[0], space)
    space["watch"]("socket.connect", (None, ("127.0.0.1", 80)))
    space["watch"]("socket.connect", (None, "/run/a.socket"))
    assert len(space["asked"]) == 1


def push_small(tmp_path: Path, *options: str) -> int:
    target = ["-o", str(tmp_path / "out"), "--to", "bundle", "--push", "hf://me/fusion"]
    return main(["convert", "small", *target, *options])


def test_a_dry_run_writes_the_folder_and_shows_the_card_and_uploads_nothing(
    hub_server, tmp_path, capsys
):
    assert push_small(tmp_path, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "license_name: ditfuse-weights" in out
    assert "would upload 4 files" in out and "model.safetensors" in out
    assert (tmp_path / "out" / "README.md").read_text() in out
    assert hub_server.requests == []


def test_a_pushed_model_has_its_card_and_licence_and_works(hub_server, tmp_path, capsys):
    from ditfuse_jax.weights import open_checkpoint

    hub_server.log_in()
    assert push_small(tmp_path, "--private") == 0
    repository = hub_server.repositories["me/fusion"]
    commit = repository.branches["main"]
    assert f"hf://me/fusion@{commit}" in capsys.readouterr().out
    held = repository.commits[commit]
    assert held["LICENSE"] == resource("data", "small", "LICENSE").read_bytes()
    assert b"--checkpoint hf://me/fusion " in held["README.md"]
    assert repository.private
    opened, local = open_checkpoint("hf://me/fusion"), open_checkpoint("small")
    assert opened.model == local.model
    path = next(iter(local.shapes()))
    np.testing.assert_array_equal(opened.read_leaf(path), local.read_leaf(path))


def test_a_folder_that_was_converted_and_read_before_is_pushed_as_it_is(
    hub_server, tmp_path, capsys
):
    hub_server.log_in()
    assert push_small(tmp_path, "--dry-run") == 0
    card = tmp_path / "out" / "README.md"
    card.write_text(card.read_text() + "\nMore words.\n")
    assert main(["convert", str(tmp_path / "out"), "--push", "hf://me/fusion"]) == 0
    repository = hub_server.repositories["me/fusion"]
    held = repository.commits[repository.branches["main"]]
    assert held["README.md"].endswith(b"\nMore words.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small", "--push", "hf://me/x"], "no such folder"),
        (["FOLDER", "--push", "hf://me/x"], "has no model card"),
        (["RUN", "--push", "hf://me/x"], "optimiser's state"),
        (["EMPTY", "--push", "hf://me/x"], "holds no weights"),
        (["FOLDER", "--push", "hf://me/x", "--to", "bundle"], "a conversion needs -o OUTPUT"),
        (["FOLDER", "--push", "gs://me/x"], "hf://OWNER/NAME"),
        (["small", "-o", "NEW", "--push", "hf://me"], "hf://OWNER/NAME"),
        (["small", "-o", "NEW", "--private"], "--private and --dry-run are for --push"),
        (["--verify", "FOLDER", "--push", "hf://me/x"], "--verify excludes"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_written(
    hub_server, tmp_path, capsys, arguments, message
):
    folders = {name: tmp_path / name for name in ("FOLDER", "RUN", "EMPTY", "NEW")}
    for path in (
        folders["FOLDER"] / "model.safetensors",
        folders["RUN"] / "checkpoints" / "3" / "training" / "d",
        folders["EMPTY"] / "README.md",
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    words = [str(folders.get(word, word)) for word in arguments]
    assert main(["convert", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not folders["NEW"].exists() and hub_server.requests == []


@pytest.mark.parametrize("token", ["", "hf_expired"])
def test_only_someone_who_is_logged_in_can_push_which_is_checked_before_the_conversion(
    hub_server, tmp_path, capsys, monkeypatch, token
):
    monkeypatch.setenv("HF_TOKEN", token)
    assert push_small(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hf auth login" in line
    assert not hub_server.repositories and not (tmp_path / "out").exists()
