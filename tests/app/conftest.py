"""`ditfuse app` and `ditfuse serve --page` in processes of their own, and a browser."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ditfuse_jax.images import write_image

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SECONDS = 60


@pytest.fixture(scope="session")
def start():
    """The function `running`."""
    return running


@pytest.fixture(scope="session")
def visit():
    """The class `Page`."""
    return Page


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@contextlib.contextmanager
def running(temporary, *options, command="app", **environment):
    """Starts the command with the bundled model and one step; kills it at the end."""
    words = [sys.executable, "-m", "ditfuse_jax", command, "--port", "0", "--steps", "1", *options]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary), "DITFUSE_API_KEY": ""} | environment,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"(?:small: open|serving small and its page at) (http://\S+:\d+)\n", line)
        assert found, line
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def address(temporary):
    with running(temporary, "--max-megapixels", "0.1") as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Page:
    """The page as a user sees it."""

    def __init__(self, page, address, key=""):
        self.page = page
        self.requests, self.errors = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._told)
        page.set_default_timeout(SECONDS * 1000)
        page.goto(address)
        if key:
            page.get_by_text("The user name is ditfuse").wait_for()
            page.get_by_label("username").fill("ditfuse")
            page.get_by_label("password").fill(key)
            page.get_by_role("button", name="Login").click()
        self.button = page.get_by_role("button", name="Fuse", exact=True)
        self.button.wait_for()

    def _told(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def upload(self, *paths):
        self.page.locator("#files input[type=file]").set_input_files(list(map(str, paths)))
        self.page.locator("#files").get_by_text(paths[-1].stem[:3]).first.wait_for()

    def say(self, words):
        self.page.get_by_label("What to do").fill(words)

    def fuse(self):
        """Presses the button; returns the line that says what was done."""
        before = self.status
        self.button.click()
        return self.next_status(before)

    @property
    def status(self):
        # Beside the text, gradio shows how long it has worked.
        texts = self.page.locator("#status .prose").all_inner_texts()
        return texts[-1].strip() if texts else ""

    def next_status(self, before):
        for _ in range(SECONDS * 10):
            text = self.status
            if text and text != before:
                return text
            self.page.wait_for_timeout(100)
        raise AssertionError(f"nothing but {text!r}")

    def canvas(self):
        """Opens the drawing; returns the surface that is painted on."""
        canvas = self.page.locator("#drawing canvas")
        if not canvas.is_visible():
            self.page.get_by_text("Draw a region").click()
        canvas.wait_for()
        canvas.scroll_into_view_if_needed()
        return canvas

    def paint(self, *places):
        """Moves the pressed mouse over places, shares of width and height."""
        box, mouse = self.canvas().bounding_box(), self.page.mouse
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        mouse.move(*points[0])
        mouse.down()
        for point in points[1:]:
            mouse.move(*point, steps=5)
        mouse.up()

    def download(self, folder, button="Download with metadata"):
        with self.page.expect_download() as started:
            self.page.get_by_role("button", name=button).click()
        path = folder / started.value.suggested_filename
        started.value.save_as(path)
        return path

    def code(self, name):
        """The text of a code box; numbers of lines are left out."""
        box = self.page.locator(f"#{name} .cm-content")
        box.wait_for()
        return box.inner_text()


@pytest.fixture
def opened(browser, address):
    """Opens the page in a browser profile of its own."""
    contexts = []

    def start(**settings):
        contexts.append(browser.new_context(**settings))
        return Page(contexts[-1].new_page(), address)

    yield start
    for context in contexts:
        context.close()


@pytest.fixture
def files(tmp_path):
    rows, columns = np.indices((48, 64))
    waves = (127 + 90 * np.sin(columns / 5), 127 + 90 * np.cos(rows / 4))
    paths = [tmp_path / name for name in ("visible.png", "infrared.png")]
    for path, wave in zip(paths, waves, strict=True):
        write_image(path, wave[..., None].repeat(3, 2).astype(np.uint8))
    return paths
