"""The pictures of a report: small on the page, at full size beside it."""

import base64
import io
import json
import re
import shutil
import subprocess
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports import page_pictures
from ditfuse_jax.evaluate.reports.page import RunInfo
from ditfuse_jax.evaluate.reports.page_pictures import FOLDER, MOST_BYTES, embed_pictures
from ditfuse_jax.evaluate.reports.report import write_report
from ditfuse_jax.evaluate.results import Results

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

# Enlarges the first picture and records what is shown.
READER = """<script>
window.onload = () => {
  document.querySelector(".row button").click();
  setTimeout(() => {
    const shown = document.querySelector(".stage img"), output = document.createElement("pre");
    output.id = "seen";
    output.textContent = JSON.stringify([shown.naturalWidth, shown.naturalHeight]);
    document.body.append(output);
  }, 500);
};
</script>"""


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns an image with detail of all sizes, which JPEG cannot encode in few bytes."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128.0)
    for side in (8, 32, 128):
        coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        image += (np.asarray(coarse.resize((width, height)), np.float64) - 128) / 2
    return np.clip(image, 0, 255).astype(np.uint8)


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def embedded_bytes(pictures) -> int:
    uris = [picture.uri for _, row in pictures.rows for picture in row]
    return sum(len(base64.b64decode(uri.partition(",")[2])) for uri in uris)


@pytest.fixture
def write(html_page, tmp_path):
    """Writes a report; returns its page."""

    def run(images, **options):
        scores = Results({stem: {"EN": {"fused": 7.0}} for stem in images})
        path = write_report(tmp_path, scores, images.items(), RunInfo(title="x"), **options)
        return html_page.Page(path.read_text(encoding="utf-8"))

    return run


def links(page) -> list[str]:
    return [attrs["href"] for tag, attrs in page.tags if tag == "a" and attrs.get("href")]


def test_few_pictures_keep_their_size_and_nothing_is_said(write):
    page = write({"s": {"A": texture(300, 400), "B": texture(40, 50)}})
    assert [decoded(uri).size for uri in page.sources()] == [(400, 300), (50, 40)]
    assert "reduced" not in page.text and links(page) == []


def test_many_pictures_are_reduced_until_they_are_small_together(monkeypatch):
    monkeypatch.setattr(page_pictures, "MOST_BYTES", 400_000)
    rows = [(f"s{i}", {t: texture(300, 400, i) for t in "AB"}) for i in range(12)]
    found = embed_pictures(rows)
    assert embedded_bytes(found) <= 400_000
    assert 160 <= found.longest_side <= 320
    for _, row in found.rows:
        for picture in row:
            assert max(decoded(picture.uri).size) == found.longest_side
            assert picture.size == (400, 300)  # of the original, shown with it


def test_pictures_are_not_reduced_more_than_needed(monkeypatch):
    rows = [(f"s{i}", {"A": texture(300, 600, i)}) for i in range(6)]
    whole = embedded_bytes(embed_pictures(rows))
    monkeypatch.setattr(page_pictures, "MOST_BYTES", whole - 1)
    found = embed_pictures(rows)
    assert found.longest_side in (640, 480) and embedded_bytes(found) < whole


def test_the_page_says_that_pictures_are_reduced(write, monkeypatch):
    monkeypatch.setattr(page_pictures, "MOST_BYTES", 10_000)
    page = write({"s": {"A": texture(300, 400)}})
    assert max(decoded(page.sources()[0]).size) < 400
    assert "--full-pictures" in page.text
    page.assert_self_contained()


@pytest.mark.slow
def test_a_page_of_89_scenes_with_6_methods_is_below_10_mb(tmp_path):
    views = {title: texture(768, 1024, i) for i, title in enumerate("ABCDEFGH")}
    stems = [f"scene {i}" for i in range(89)]
    scores = {s: {"EN": dict.fromkeys("CDEFGH", 7.0 + i)} for i, s in enumerate(stems)}
    pictures = ((stem, views) for stem in stems)
    path = write_report(tmp_path, Results(scores), pictures, RunInfo(title="x"))
    assert path.stat().st_size < 10e6
    assert MOST_BYTES * 4 / 3 < 9.5e6


def test_full_pictures_are_files_beside_the_page_that_it_links_to(write, tmp_path):
    images = {"a/b ü": {"View A": texture(50, 60, 1), 'F"<': texture(30, 20, 2)}}
    page = write(images, full_pictures=True)
    files = [tmp_path / urllib.parse.unquote(link) for link in links(page)]
    assert [file.parent.name for file in files] == [FOLDER] * 2
    for file, image in zip(files, images["a/b ü"].values(), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), image)
    assert sorted(files) == sorted((tmp_path / FOLDER).iterdir())  # no temporary files
    enlarged = [attrs["data-full"] for tag, attrs in page.tags if tag == "img" and "src" in attrs]
    assert enlarged == links(page)
    assert all(source.startswith("data:image/") for source in page.sources())
    shutil.rmtree(tmp_path / FOLDER)  # what the page shows is in the page
    assert "https:" not in page.html and "http:" not in page.html


def test_names_that_differ_only_in_signs_get_files_of_their_own(tmp_path):
    rows = [(stem, {"A": texture(20, 20)}) for stem in ("x y", "x_y", "x.y")]
    embed_pictures(rows, tmp_path)
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def test_full_pictures_of_an_earlier_page_are_removed_and_other_files_kept(tmp_path):
    embed_pictures([(s, {"A": texture(20, 20)}) for s in ("one", "two")], tmp_path)
    (tmp_path / FOLDER / "mine.png").write_bytes(b"x")
    embed_pictures([("three", {"A": texture(20, 20)})], tmp_path)
    names = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert names == ["000-00-three-A.png", "mine.png"]


def test_a_picture_that_is_not_rgb_is_refused_with_its_name(tmp_path):
    with pytest.raises(UserError, match="scene 1, Mask"):
        embed_pictures([("scene 1", {"Mask": np.zeros((4, 4), np.uint8)})])


@pytest.mark.processes
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_an_enlarged_picture_is_the_file_or_without_it_the_embedded_one(
    write, tmp_path, monkeypatch
):
    monkeypatch.setattr(page_pictures, "MOST_BYTES", 1000)
    write({"s": {"A": texture(300, 420)}}, full_pictures=True)
    path = tmp_path / "report.html"
    page = path.read_text(encoding="utf-8").replace("<main>", f"{READER}<main>", 1)
    path.write_text(page, encoding="utf-8")

    def enlarged():
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [BROWSER, *options, profile, "--dump-dom", path.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        output = re.search(r'<pre id="seen">(.*?)</pre>', dom)
        assert output, "the page's script did not run to its end"
        return json.loads(output[1])

    assert enlarged() == [420, 300]
    shutil.rmtree(tmp_path / FOLDER)
    assert enlarged() == [160, 114]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--a", "x", "--b", "y", "--fused", "z", "--json", "s.json"], "needs --output"),
        (["--sequence", "--a", "x", "--b", "y", "--fused", "z"], "with --sequence"),
        (["--understanding"], "with --understanding"),
        (["--suite", "degraded", "--output", "o"], "whose report has no pictures"),
    ],
)
def test_full_pictures_are_refused_where_no_report_has_them(capsys, options, message):
    assert main(["evaluate", *options, "--full-pictures"]) == 2
    assert message in capsys.readouterr().err
