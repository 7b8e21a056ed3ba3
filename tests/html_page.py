"""A page as its reader finds it, for the tests of reports."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects tags with their attributes, checks nesting, keeps the text."""

    VOID = frozenset({"meta", "img", "line", "polyline", "polygon", "circle", "br", "input"})

    def __init__(self, html: str):
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    def sources(self) -> list[str]:
        return [attrs["src"] or "" for tag, attrs in self.tags if tag == "img" and "src" in attrs]

    def assert_self_contained(self) -> None:
        """It needs no other file and no network."""
        for tag, attrs in self.tags:
            assert tag not in ("link", "iframe", "object")
            assert "srcset" not in attrs
            for name in ("href", "xlink:href"):
                assert (attrs.get(name) or "#").startswith("#")
            assert (attrs.get("src") or "data:").startswith("data:")
        assert not re.search(r"https?://|url\((?!#)|@import|import\(", self.html)
        assert "default-src 'none'" in self.html
