"""The site is built without warnings and loads nothing from elsewhere."""

import re
import shutil

import pytest

from docs import build_site

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    assert build_site.build(folder) == 0
    return folder


@pytest.mark.processes
@pytest.mark.slow
def test_pages_load_nothing_from_other_places(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*src=\"(?:https?:)?//[^\"]*", text)
        loaded += re.findall(r"<link[^>]*rel=\"stylesheet\"[^>]*href=\"(?:https?:)?//[^\"]*", text)
        assert not loaded, page


@pytest.mark.processes
@pytest.mark.slow
def test_the_reference_has_options_settings_and_docstrings(site):
    assert "--image-guidance-scale" in (site / "reference/commands/fuse.html").read_text("utf-8")
    assert "train.hang_timeout" in (site / "reference/settings.html").read_text("utf-8")
    fuser = (site / "reference/python/fuser.html").read_text("utf-8")
    assert 'id="ditfuse_jax.sample.fuser.Fuser.batch"' in fuser


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
def test_search_works_on_pages_opened_from_a_disk_and_nothing_is_requested(site):
    from playwright.sync_api import sync_playwright

    requests = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.get_by_role("button", name="Search").click()
        field = page.get_by_role("combobox", name="Search")
        field.press_sequentially("megapixels", delay=50)
        page.locator("a[href*='data.html']").filter(has_text="Image files").wait_for()
        assert field.input_value() == "megapixels"
        browser.close()
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
