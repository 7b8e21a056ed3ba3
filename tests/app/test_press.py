"""What a press of the page's button does, without a browser."""

import types
from typing import Any

import numpy as np
import pytest

from ditfuse_jax import Fuser
from ditfuse_jax.app.equivalents import ModelChoice
from ditfuse_jax.app.sessions import Sessions
from ditfuse_jax.images import write_image
from ditfuse_jax.serve.limits import Limits

pytest.importorskip("gradio")
from ditfuse_jax.app.page import build_page

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def fuser():
    return Fuser.load("small", steps=1)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path, level in zip(paths, (60, 160), strict=True):
        write_image(path, np.full((32, 32, 3), level, np.uint8))
    return list(map(str, paths))


class Page:
    """The page of one session."""

    def __init__(self, fuser, folder, *adapters):
        self.sessions = Sessions(folder)
        self.built: Any = build_page(
            fuser, ModelChoice(adapters=adapters), self.sessions, Limits(), {}
        )
        self.history = []
        self.levels = sum(
            block.elem_id in ("brightness", "contrast", "saturation", "detail", "first")
            for block in self.built.blocks.values()
        )
        self.fuse = next(f.fn for f in self.built.fns.values() if f.name == "fuse")

    def press(self, files, seed=0, steps=1):
        """Presses the button; returns the line of the status."""
        request = types.SimpleNamespace(session_hash="one")
        own = (files, "", "any images", False, False, steps, seed, "whole image")
        answer = self.fuse(request, *own, *[0] * self.levels, self.history)
        if isinstance(answer[-1], list):
            self.history = answer[-1]
        self.command = answer[4]
        return answer[0]


def test_refused_presses_keep_the_results_that_are_shown(fuser, files, tmp_path):
    page = Page(fuser, tmp_path / "app")
    assert page.press(files).startswith("done")
    for _ in range(6):
        assert "choose two to four images" in page.press(files[:1])
    assert [path.name for path in (tmp_path / "app" / "session-one").iterdir()] == ["1"]
    assert page.press(files).startswith("done")
    assert [path.name for path in sorted((tmp_path / "app" / "session-one").iterdir())] == [
        "1",
        "2",
    ]


def test_an_empty_seed_is_that_of_the_server(fuser, files, tmp_path):
    page = Page(fuser, tmp_path / "app")
    assert page.press(files, seed=None, steps=None).startswith("done")
    assert "--seed" not in page.command


def test_a_session_that_is_closed_while_it_is_fused_leaves_nothing(
    fuser, files, tmp_path, monkeypatch
):
    page = Page(fuser, tmp_path / "app")
    whole = Fuser.run

    def run(self, prepared):
        page.sessions.close("one")
        return whole(self, prepared)

    monkeypatch.setattr(Fuser, "run", run)
    assert "load it again" in page.press(files)
    assert "load it again" in page.press(files)
    assert not (tmp_path / "app").exists()


def test_adapters_are_in_the_command(fuser, files, tmp_path):
    page = Page(fuser, tmp_path / "app", "mine=0.5")
    page.press(files)
    assert "--lora mine=0.5" in page.command


@pytest.mark.parametrize(("steps", "most"), [(1, 50), (60, 60)])
def test_the_slider_of_steps_reaches_those_of_the_server(steps, most, tmp_path):
    page = Page(Fuser.load("small", steps=steps), tmp_path)
    (slider,) = [b for b in page.built.blocks.values() if getattr(b, "label", "") == "Steps"]
    assert (slider.value, slider.maximum) == (steps, most)
