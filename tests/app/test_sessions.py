"""Whose files are deleted when, and what the page says would do the same."""

import os
import shlex
import time
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.app.equivalents import (
    ModelChoice,
    changed_arguments,
    changed_number,
    changed_settings,
    command_line,
    python_call,
)
from ditfuse_jax.app.sessions import Sessions
from ditfuse_jax.cli import _parsers
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import write_image


@pytest.fixture
def upload(tmp_path):
    """Writes a file as gradio stores an upload; returns its path."""

    def write(name):
        path = tmp_path / f"hash{name}" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(path, np.zeros((4, 4, 3), np.uint8))
        return path

    return write


def test_a_closed_session_leaves_no_files(tmp_path, upload):
    sessions, path = Sessions(tmp_path), upload("a")
    sessions.add_uploads("one", [str(path)])
    (sessions.new_result("one") / "fused.png").write_bytes(b"x")
    sessions.close("one")
    assert list(tmp_path.iterdir()) == []


def test_an_upload_stays_while_another_session_has_it(tmp_path, upload):
    sessions, path = Sessions(tmp_path), upload("a")
    for session in ("one", "two"):
        sessions.add_uploads(session, [str(path)])
    sessions.close("one")
    assert path.exists()
    sessions.close("two")
    assert not path.exists()


def test_empty_files_of_finished_uploads_are_deleted_and_others_kept(tmp_path):
    for name, content, age in (("tmpold", b"", 900), ("tmpnew", b"", 0), ("tmpfull", b"x", 900)):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    Sessions(tmp_path).close("one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmpfull", "tmpnew"]


def test_only_the_last_results_are_kept(tmp_path):
    sessions = Sessions(tmp_path)
    folders = [sessions.new_result("one") for _ in range(6)]
    assert [folder.exists() for folder in folders] == [False, False, True, True, True, True]


def test_a_closed_session_gets_no_new_files(tmp_path, upload):
    sessions = Sessions(tmp_path)
    sessions.new_result("one")
    sessions.close("one")
    for call in (sessions.check, sessions.new_result):
        with pytest.raises(UserError, match="load it again"):
            call("one")
    path = upload("late")
    sessions.add_uploads("one", [str(path)])
    assert list(tmp_path.iterdir()) == []
    sessions.check("two")


def test_a_file_that_cannot_be_deleted_does_not_keep_the_others(tmp_path, upload, monkeypatch):
    sessions, paths = Sessions(tmp_path), [upload(name) for name in "abc"]
    sessions.add_uploads("one", map(str, paths))
    result = sessions.new_result("one")
    empty = [tmp_path / "tmpold1", tmp_path / "tmpold2"]
    for path in empty:
        path.write_bytes(b"")
        os.utime(path, (time.time() - 900,) * 2)
    whole = Path.unlink

    def unlink(self, missing_ok=False):
        if self in (paths[1], empty[0]):
            raise PermissionError(self)
        whole(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    sessions.close("one")
    kept = [path.exists() for path in (*paths, *empty, result)]
    assert kept == [False, True, False, True, False, False]


def test_examples_and_files_elsewhere_are_never_deleted(tmp_path, upload):
    inside = tmp_path / "gradio"
    (inside / "examples").mkdir(parents=True)
    example = inside / "examples" / "near.png"
    for path in (example, tmp_path / "mine.png"):
        path.write_bytes(b"x")
    sessions = Sessions(inside)
    traversal = inside / "session-x" / ".." / ".." / "mine.png"
    sessions.add_uploads("one", [str(example), str(tmp_path / "mine.png"), str(traversal)])
    sessions.close("one")
    sessions.close("../..")
    assert example.exists() and (tmp_path / "mine.png").exists()


def test_the_command_is_read_back_as_the_arguments():
    arguments = changed_arguments(
        prompt="don't", task="ivif", adjust=["brightness=-1"], align="auto", depth=16, seed=3
    )
    words = shlex.split(command_line(ModelChoice("runs/a b"), ["a.png", "b c.png"], arguments))
    parser, _ = _parsers("fuse")
    args = parser.parse_args(words[1:])
    assert [str(path) for path in args.inputs] == ["a.png", "b c.png"]
    assert (args.prompt, args.task, args.adjust) == ("don't", "ivif", ["brightness=-1"])
    assert (args.align, args.depth, args.seed) == ("auto", 16, 3)
    assert str(args.checkpoint) == "runs/a b"


def test_adapters_and_their_base_are_in_the_command_and_the_call():
    choice = ModelChoice("runs/mine", ("one=0.5", "two"), "base model")
    words = shlex.split(command_line(choice, ["a.png", "b.png"], {}))
    args = _parsers("fuse")[0].parse_args(words[1:])
    assert args.lora == ["one=0.5", "two"] and str(args.base) == "base model"
    loaded = "Fuser.load('runs/mine', adapters=['one=0.5', 'two'], base='base model')"
    assert loaded in python_call(choice, ["a.png", "b.png"], {})


def test_an_empty_box_means_the_number_of_the_server():
    assert [changed_number(value, 3) for value in (None, 3, 0, 4.0)] == [None, None, 0, 4]


def test_settings_of_the_server_are_in_the_command():
    model = SamplingConfig()
    own = model.override({"steps": 3, "guidance_interval": (0.0, 0.5), "limit_chroma": True})
    changed = changed_settings(own, model)
    words = shlex.split(command_line(ModelChoice(), ["a.png", "b.png"], changed | {"seed": 0}))
    args = _parsers("fuse")[0].parse_args(words[1:])
    assert (args.steps, args.guidance_interval, args.limit_chroma) == (3, (0.0, 0.5), True)
    assert changed_arguments(seed=0) == {"seed": 0} and args.seed == 0


def test_the_python_call_is_python_with_the_same_arguments():
    arguments = changed_arguments(prompt='say "x"', task="fuse", adjust=[], steps=4, depth=None)
    assert arguments == {"prompt": 'say "x"', "steps": 4}
    code = python_call(ModelChoice(), ["a.png", "b.png"], arguments)
    compile(code, "page", "exec")
    assert """fuser('a.png', 'b.png', prompt='say "x"', steps=4)""" in code
