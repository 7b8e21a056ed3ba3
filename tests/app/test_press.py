"""What a press of the page's button does, without a browser."""

import base64
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import Fuser
from ditfuse_jax.app.drawing import drawn_mask, start
from ditfuse_jax.app.equivalents import ModelChoice, size_settings
from ditfuse_jax.app.sessions import Sessions
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import decode_image, encode_image, read_image, write_image
from ditfuse_jax.serve.limits import Limits

pytest.importorskip("gradio")
from ditfuse_jax.app.page import build_page
from ditfuse_jax.app.work import Work

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
        work = Work(
            fuser, lambda item: fuser.run([item])[0], ModelChoice(adapters=adapters), Limits()
        )
        self.built: Any = build_page(work, self.sessions, {})
        self.history = []
        self.levels = sum(
            block.elem_id in ("brightness", "contrast", "saturation", "detail", "first")
            for block in self.built.blocks.values()
        )
        self.fuse = next(f.fn for f in self.built.fns.values() if f.name == "fuse")

    def press(self, files, seed=0, steps=1, drawn=None, feather=2, full=True):
        """Presses the button; returns the line of the status."""
        request = types.SimpleNamespace(session_hash="one")
        said = "" if drawn is None else "much brighter"
        switches = (False, False, full)
        own = (files, said, "any images", drawn, feather, *switches, steps, seed, "whole image")
        answer = self.fuse(request, *own, *[0] * self.levels, self.history)
        if isinstance(answer[-1], list):
            self.history = answer[-1]
        self.command = answer[4]
        self.answer = answer
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


def drawing_of(mask):
    data = base64.b64encode(encode_image(mask[..., None].repeat(3, 2), "x.png")).decode()
    return {"mask": f"data:image/png;base64,{data}"}


class TestRegion:
    """A region that was drawn on a smaller copy of the first image."""

    @pytest.fixture
    def mask(self):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:12, 8:] = 255
        return mask

    def test_it_limits_the_request_as_the_file_does_that_the_command_names(
        self, fuser, files, tmp_path, mask
    ):
        page = Page(fuser, tmp_path / "app")
        said = page.press(files, drawn=drawing_of(mask), feather=10)
        assert said.startswith("understood: brightness +2 (by image operations) · in the region")
        assert page.command.endswith(" --region region.png --feather 3.2")
        result = page.history[-1]
        assert Path(result.region).name == "region.png"
        drawn = read_image(result.region)
        assert drawn.shape == (32, 32, 3) and drawn[16, 24, 0] == 255 and drawn[16, 4, 0] == 0
        call = fuser(*files, "much brighter", region=result.region, feather=3.2)
        np.testing.assert_array_equal(read_image(result.fused), call.image)
        plain = fuser(*files)
        np.testing.assert_array_equal(call.image[:, :8], plain.image[:, :8])
        assert (call.image[16, 24] > plain.image[16, 24]).all()
        assert page.answer[6] == {"value": result.region, "visible": True, "__type__": "update"}

    @pytest.mark.parametrize("nothing", [{}, {"mask": ""}, {"image": "data:image/jpeg;base64,"}])
    def test_without_a_drawing_the_request_is_for_the_whole_image(
        self, fuser, files, tmp_path, nothing
    ):
        page = Page(fuser, tmp_path / "app")
        assert "region" not in page.press(files, drawn=nothing, feather=10)
        assert "--region" not in page.command and "--feather" not in page.command
        call = fuser(*files, "much brighter")
        np.testing.assert_array_equal(read_image(page.history[-1].fused), call.image)

    @pytest.mark.parametrize(
        "mask",
        [
            7,
            "region.png",
            "/etc/hostname",
            "data:image/png;base64,AAAA",
            "data:image/png;base64,no base64",
            "data:image/png;base64," + "A" * (9 << 20),
        ],
    )
    def test_what_is_no_drawing_is_refused(self, fuser, files, tmp_path, mask):
        page = Page(fuser, tmp_path / "app")
        assert "clear it and draw it again" in page.press(files, drawn={"mask": mask})
        assert not page.history

    def test_a_drawing_of_many_pixels_is_not_decoded(self, mask):
        large = drawing_of(mask.repeat(8, 0).repeat(8, 1))
        with pytest.raises(UserError, match="draw it again"):
            drawn_mask(large, (32, 32), pixels=1000)

    def test_the_copy_to_draw_on_has_the_shape_of_the_image_and_few_pixels(self, tmp_path):
        write_image(tmp_path / "a.png", np.full((300, 3000, 3), 90, np.uint8))
        shown = start(str(tmp_path / "a.png"), 10**6)["image"]
        data = base64.b64decode(shown.partition(",")[2])
        assert decode_image(data, "shown").shape == (102, 1024, 3)
        assert start(str(tmp_path / "a.png"), 10**5) == start(None, 10**6) == {"image": ""}
        (tmp_path / "b.png").write_bytes(b"no image")
        assert start(str(tmp_path / "b.png"), 10**6) == {"image": ""}

    def test_a_deep_image_is_shown_in_its_range(self, tmp_path):
        rows = np.linspace(9000, 11000, 64).astype(np.uint16)
        Image.fromarray(np.broadcast_to(rows[:, None], (64, 64)).copy()).save(tmp_path / "ir.png")
        data = base64.b64decode(start(str(tmp_path / "ir.png"), 10**6)["image"].partition(",")[2])
        shown = decode_image(data, "shown")
        assert np.ptp(shown) > 200


class TestFullSize:
    """The switch."""

    def test_without_it_images_are_computed_at_1024_pixels(self, fuser, tmp_path):
        for name in "ab":
            write_image(tmp_path / f"{name}.png", np.full((64, 2048, 3), 90, np.uint8))
        files = [str(tmp_path / f"{name}.png") for name in "ab"]
        page = Page(fuser, tmp_path / "app")
        assert "· computed at 1024x32 and enlarged ·" in page.press(files, full=False)
        assert "--max-side 1024" in page.command
        assert "computed at" not in page.press(files)
        assert "--max-side" not in page.command

    def test_a_server_that_computes_smaller_can_compute_in_full_with_the_same_memory(self):
        own = SamplingConfig(max_side=500)
        assert size_settings(own, False, 32) == {}
        assert size_settings(own, True, 32) == {"max_side": 0, "tile": 480}
        in_tiles = SamplingConfig(max_side=500, tile=160)
        assert size_settings(in_tiles, True, 32) == {"max_side": 0}


@pytest.mark.parametrize(("steps", "most"), [(1, 50), (60, 60)])
def test_the_slider_of_steps_reaches_those_of_the_server(steps, most, tmp_path):
    page = Page(Fuser.load("small", steps=steps), tmp_path)
    (slider,) = [b for b in page.built.blocks.values() if getattr(b, "label", "") == "Steps"]
    assert (slider.value, slider.maximum) == (steps, most)
