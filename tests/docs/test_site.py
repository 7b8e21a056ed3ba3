"""The site is built without warnings and loads nothing from elsewhere."""

import re

import pytest

from docs import build_site


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
