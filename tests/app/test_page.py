"""`ditfuse app` in a real browser."""

import contextlib
import os
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image, read_metadata, write_image

pytest.importorskip("gradio")

pytestmark = [pytest.mark.slow, pytest.mark.processes]
SECONDS = 60


def test_upload_sentence_slider_download_and_the_command_that_does_the_same(
    opened, files, tmp_path, monkeypatch
):
    page = opened()
    page.upload(*files)
    page.say("Make it a little brighter.")
    status = page.fuse()
    said = r"understood: brightness \+1 \(by image operations\) · \d+\.\d s"
    assert re.fullmatch(said, status), status
    page.say("")
    page.page.locator("#brightness input[type=number]").fill("-2")
    page.page.locator("#brightness input[type=number]").press("Tab")
    assert "understood: brightness -2" in page.fuse()
    path = page.download(tmp_path)
    assert read_metadata(path)["understood"] == "brightness -2"
    page.page.get_by_text("The same elsewhere").click()
    words = shlex.split(page.code("command"))
    assert words[:3] == ["ditfuse", "fuse", "visible.png"] and "brightness=-2" in words
    monkeypatch.chdir(tmp_path)
    assert "--steps" in words  # with which the server was started
    assert main(words[1:]) == 0
    np.testing.assert_array_equal(read_image("fused.png"), read_image(path))
    assert "fuser('visible.png', 'infrared.png'" in page.code("python")
    assert not page.errors


class TestDrawing:
    """The region that is drawn over the first image."""

    def test_a_painted_region_limits_the_request_and_the_command_does_the_same(
        self, opened, files, tmp_path, monkeypatch
    ):
        page = opened()
        page.upload(*files)
        page.say("much brighter")
        page.paint((0.1, 0.5), (0.4, 0.5))
        assert "understood: brightness +2 (by image operations) · in the region" in page.fuse()
        path = page.download(tmp_path)
        page.page.get_by_text("The same elsewhere").click()
        mask = page.download(tmp_path, "Download the region")
        drawn = read_image(mask)[..., 0]
        assert drawn.shape == (48, 64) and drawn[24, 16] == 255 and not drawn[:, 40:].any()
        words = shlex.split(page.code("command"))
        assert words[-2:] == ["--region", "region.png"]
        monkeypatch.chdir(tmp_path)
        assert main(words[1:]) == 0
        np.testing.assert_array_equal(read_image("fused.png"), read_image(path))
        assert main(["fuse", *map(str, files), "-o", "plain.png", "--steps", "1"]) == 0
        differs = (read_image("plain.png") != read_image(path)).any(axis=-1)
        assert differs[24, 8:24].all() and not differs[:, 40:].any()
        assert not page.errors

    def test_what_is_erased_undone_or_cleared_is_not_in_the_region(self, opened, files):
        page = opened()
        page.upload(*files)
        page.paint((0.3, 0.3), (0.6, 0.6))
        hint = page.page.locator("#drawing .hint")
        painted = "What you ask for applies where it is painted."
        nothing = "Paint where it is to apply."
        assert hint.inner_text() == painted
        page.page.get_by_role("button", name="Undo").click()
        assert hint.inner_text() == nothing
        page.paint((0.3, 0.3), (0.6, 0.6))
        page.page.get_by_role("button", name="Erase").click()
        page.page.get_by_label("Size of the brush").fill("40")
        page.paint((0.3, 0.3), (0.6, 0.6))
        assert hint.inner_text() == nothing
        page.page.get_by_role("button", name="Undo").click()
        assert hint.inner_text() == painted
        page.page.locator("#drawing .clear").click()
        assert hint.inner_text() == nothing
        page.say("much brighter")
        assert "in the region" not in page.fuse()

    def test_other_images_begin_without_a_region(self, opened, files):
        page = opened()
        page.upload(*files)
        page.paint((0.3, 0.3), (0.6, 0.6))
        page.page.get_by_label("Clear").first.click()
        hint = page.page.locator("#drawing .hint")
        hint.get_by_text("Choose images first.").wait_for()
        page.upload(*reversed(files))
        hint.get_by_text("Paint where it is to apply.").wait_for()

    def test_the_arrow_keys_and_the_space_bar_paint(self, opened, files, tmp_path):
        page = opened()
        page.upload(*files)
        page.say("much darker")
        canvas = page.canvas()
        canvas.focus()
        keyboard = page.page.keyboard
        for _ in range(4):
            keyboard.press("ArrowLeft")
        keyboard.down("Space")
        for _ in range(4):
            keyboard.press("ArrowUp")
        keyboard.up("Space")
        assert "brightness -2 (by image operations) · in the region" in page.fuse()
        page.page.get_by_text("The same elsewhere").click()
        drawn = read_image(page.download(tmp_path, "Download the region"))[..., 0]
        rows, columns = np.nonzero(drawn)
        assert 0 < rows.min() < rows.max() < 30 and columns.max() < 32

    def test_a_finger_paints_on_a_phone(self, opened, files):
        page = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        page.upload(*files)
        canvas = page.canvas()
        canvas.tap()
        hint = page.page.locator("#drawing .hint")
        hint.get_by_text("What you ask for applies where it is painted.").wait_for()
        box = canvas.bounding_box()
        assert box["width"] > 250 and box["height"] < 0.6 * 844 + 1


def test_an_example_is_fused_and_compared_with_the_result_before(opened):
    page = opened()
    page.page.get_by_role("button", name="Two focus settings").click()
    page.page.locator("#files").get_by_text("near").first.wait_for()
    page.say("a little brighter")
    first = page.fuse()
    shown = page.page.locator("#result img")
    assert shown.count() == 2
    left = shown.first.get_attribute("src")
    page.say("a little darker")
    page.button.click()
    assert "brightness -1" in page.next_status(first)
    page.page.get_by_label("previous result").check()
    page.page.wait_for_timeout(1500)
    sources = [shown.nth(k).get_attribute("src") for k in range(2)]
    assert left not in sources and all("shown" in source for source in sources)
    assert page.page.locator("#last img").count() >= 2


def test_bad_files_are_explained_and_the_page_goes_on(opened, files, tmp_path):
    page = opened()
    assert "choose two to four images" in page.fuse()
    (tmp_path / "broken.png").write_bytes(files[0].read_bytes()[:200])
    page.upload(files[0], tmp_path / "broken.png")
    assert "broken.png: is damaged or truncated" in page.fuse()
    write_image(tmp_path / "large.png", np.zeros((400, 400, 3), np.uint8))
    page.page.get_by_label("Clear").first.click()
    page.upload(files[0], tmp_path / "large.png")
    assert "large.png: 400x400 pixels exceed the limit" in page.fuse()
    page.page.get_by_label("Clear").first.click()
    page.upload(*files)
    assert page.fuse().startswith("done · ")


def test_two_users_at_once_get_their_own_results(opened, files):
    first, second = opened(), opened()
    for page, words in ((first, "much brighter"), (second, "much darker")):
        page.upload(*files)
        page.say(words)
    first.button.click()
    second.button.click()
    assert "brightness +2" in first.next_status("") and "brightness -2" in second.next_status("")
    sources = [
        page.page.locator("#result img").last.get_attribute("src") for page in (first, second)
    ]
    assert sources[0] != sources[1]


def test_it_works_with_the_keyboard_alone(opened):
    page = opened()
    keyboard = page.page.keyboard

    def tab_to(name):
        for _ in range(40):
            keyboard.press("Tab")
            focused = page.page.evaluate(
                "(document.activeElement.innerText || '') + ' ' + "
                "(document.activeElement.closest('label')?.innerText || '')"
            )
            if name in focused:
                return
        raise AssertionError(f"{name} is not reached")

    tab_to("Two exposures")
    keyboard.press("Enter")
    page.page.locator("#files").get_by_text("under").first.wait_for()
    tab_to("What to do")
    keyboard.type("a little brighter")
    keyboard.press("Enter")
    assert "brightness +1" in page.next_status("")


def test_the_browser_keeps_no_record_of_what_was_fused(opened, files):
    page = opened()
    page.upload(*files)
    page.fuse()
    page.page.wait_for_timeout(1000)
    kept = "indexedDB.databases().then(all => [all.length, localStorage.length])"
    assert page.page.evaluate(kept) == [0, 0]


def test_nothing_is_loaded_from_elsewhere(opened, files, address):
    page = opened()
    page.upload(*files)
    page.fuse()
    page.page.wait_for_timeout(1000)
    elsewhere = [url for url in page.requests if not url.startswith((address, "data:", "blob:"))]
    assert not elsewhere
    assert not page.errors  # what the policy forbids is one
    answer = page.page.request.get(address)
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_fits_the_width_of_the_screen(opened, files, width):
    page = opened(viewport={"width": width, "height": 844})
    page.upload(*files)
    page.fuse()
    page.page.get_by_text("The same elsewhere").click()
    page.page.wait_for_timeout(1000)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


def test_files_are_gone_when_the_page_is_closed_and_the_folder_when_the_server_ends(
    browser, files, tmp_path_factory, start, visit
):
    temporary = tmp_path_factory.mktemp("of the server")

    def held():
        # Gradio leaves empty files, which are deleted later; others go while they are listed.
        found = []
        for folder, _, names in os.walk(temporary):
            for path in (Path(folder) / name for name in names):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_size and "examples" not in path.parts:
                        found.append(path)
        return found

    with start(temporary) as (process, address):
        context = browser.new_context()
        page = visit(context.new_page(), address)
        page.upload(*files)
        page.fuse()
        assert {path.name for path in held()} > {"visible.png", "infrared.png", "fused.png"}
        context.close()
        for _ in range(SECONDS * 10):
            if not held():
                break
            time.sleep(0.1)
        assert not held()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert not list(Path(temporary).glob("ditfuse-app-*"))
