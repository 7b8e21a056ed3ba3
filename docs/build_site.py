"""Builds the documentation site: `make docs`, or `python -m docs.build_site [FOLDER]`.

The pages of `docs/`, some others of the repository, the notebooks and the generated reference are
written to a temporary project, on which Zensical runs.  Links to pages become links inside the
site; links to other files of the repository lead to a page with their text.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import yaml

from docs.notebook_pages import notebook_page
from docs.reference_pages import reference_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

# Pages of the site that are elsewhere in the repository.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/instructions/README.md": "instructions.md",
    "launch/README.md": "launch.md",
}
_LINK = re.compile(r"(!?\[[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*\])\(([^()\s]+)\)")
_FENCE = re.compile(r"^ *(```+|~~~+)", re.MULTILINE)
_FOREIGN_SCRIPT = re.compile(r'<script src="https://unpkg.com/iframe-worker/shim"[^>]*></script>')
_LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".sh": "bash", ".json": "json"}


class BrokenLink(Exception):
    """A link leads nowhere."""


def written_pages() -> dict[str, str]:
    """Returns path in the repository -> path in the site, of the pages that are written by hand."""
    own = {
        path.relative_to(ROOT).as_posix(): path.relative_to(DOCS).as_posix()
        for path in sorted(DOCS.rglob("*.md"))
    }
    return own | ELSEWHERE


def site_pages() -> dict[str, tuple[str, str]]:
    """Returns path in the site -> (text, path in the repository that its links are relative to)."""
    pages = {
        target: ((ROOT / source).read_text(encoding="utf-8"), source)
        for source, target in written_pages().items()
    }
    for notebook in sorted(DOCS.rglob("*.ipynb")):
        target = notebook.relative_to(DOCS).with_suffix(".md").as_posix()
        pages[target] = (notebook_page(notebook), f"docs/{target}")
    for target, text in reference_pages().items():
        pages[target] = (text, f"docs/{target}")
    return pages


def text_parts(text: str) -> Iterator[tuple[str, bool]]:
    """Splits a page at its fences: pieces of the text, and whether each is code."""
    fence, start = "", 0
    for match in _FENCE.finditer(text):
        if not fence:
            yield text[start : match.start()], False
            fence, start = match[1], match.start()
        elif match[1].startswith(fence):
            end = text.find("\n", match.end())
            end = len(text) if end < 0 else end + 1
            yield text[start:end], True
            fence, start = "", end
    yield text[start:], bool(fence)


def links_of(text: str) -> list[str]:
    """Returns the targets of the links and pictures of a page."""
    return [
        match[2]
        for part, is_code in text_parts(text)
        if not is_code
        for match in _LINK.finditer(part)
    ]


def is_external(target: str) -> bool:
    return target.startswith(("http://", "https://", "mailto:", "#"))


def relative(page: str, link: str) -> str:
    """Returns the path that a link of a page leads to."""
    return os.path.normpath(PurePosixPath(page).parent / link).replace(os.sep, "/")


def rewrite_links(text: str, page: str, origin: str, places: Mapping[str, str]) -> str:
    """Returns a page with links that hold in the site.

    Args:
      text: Markdown.
      page: its path in the site.
      origin: its path in the repository, that its links are relative to.
      places: path in the repository -> path in the site; other files lead to pages in `code/`.

    Raises:
      BrokenLink: a link leads to no file of the repository and no page.
    """

    def replace(match: re.Match[str]) -> str:
        if is_external(match[2]):
            return match[0]
        path, _, anchor = match[2].partition("#")
        source = relative(origin, path)
        target = places.get(source)
        if target is None:
            if source.startswith("..") or not (ROOT / source).exists():
                raise BrokenLink(f"{origin}: {match[2]} leads nowhere")
            is_asset = source.startswith("docs/") and (ROOT / source).is_file()
            target = source.removeprefix("docs/") if is_asset else code_page(source)
        link = os.path.relpath(target, PurePosixPath(page).parent).replace(os.sep, "/")
        return f"{match[1]}({link}{'#' * bool(anchor)}{anchor})"

    parts = []
    for part, is_code in text_parts(text):
        parts.append(part if is_code else _LINK.sub(replace, part))
    return "".join(parts)


def code_page(source: str) -> str:
    """Returns the page of a file or folder of the repository."""
    return f"code/{source}.md"


def write_code_page(folder: Path, source: str) -> None:
    """Writes the page of a file, with its text, or of a folder, with links to its files' pages."""
    target = folder / code_page(source)
    if target.exists():
        return
    path = ROOT / source
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir() if p.is_file() and _is_text(p))
        lines = [f"- [{name}]({path.name}/{name}.md)" for name in names]
        for name in names:
            write_code_page(folder, f"{source}/{name}")
        text = "\n".join(lines)
    elif _is_text(path):
        language = _LANGUAGES.get(path.suffix, "text")
        text = f"``````{language}\n{path.read_text(encoding='utf-8').rstrip()}\n``````"
    else:
        text = f"A file of {path.stat().st_size:,} bytes."
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"# `{source}`\n\n{text}\n", encoding="utf-8")


def _is_text(path: Path) -> bool:
    return path.suffix not in (".safetensors", ".pyc", ".jpg", ".png")


def write_pages(folder: Path) -> dict[str, str]:
    """Writes all pages and pictures of the site to a folder; returns their texts.

    Raises:
      BrokenLink: a link leads nowhere.
    """
    pages = site_pages()
    places = {origin: page for page, (_, origin) in pages.items()}
    written = {}
    for page, (text, origin) in pages.items():
        written[page] = rewrite_links(text, page, origin, places)
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(written[page], encoding="utf-8")
    for name in ("images", "stylesheets"):
        shutil.copytree(DOCS / name, folder / name)
    for page, text in written.items():
        for link in links_of(text):
            path = relative(page, link.partition("#")[0])
            if path.startswith("code/"):
                write_code_page(folder, path.removeprefix("code/").removesuffix(".md"))
    return written


def nav_pages(entry: object) -> list[str]:
    """Returns the pages that a part of `nav` names, in order."""
    if isinstance(entry, str):
        return [entry]
    items = entry.values() if isinstance(entry, dict) else entry
    return [page for item in items for page in nav_pages(item)]  # pyright: ignore


def configuration(pages: Mapping[str, str]) -> dict:
    """Returns the configuration, in which entries like `reference/python/*` name their pages."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def expand(entry):
        if isinstance(entry, dict):
            return {key: expand(value) for key, value in entry.items()}
        if isinstance(entry, list):
            return [item for part in entry for item in _expanded(part)]
        return entry

    def _expanded(part):
        if isinstance(part, str) and part.endswith("/*"):
            prefix = part.removesuffix("*")
            title = PurePosixPath(prefix).name.capitalize()
            return [{title: [page for page in pages if page.startswith(prefix)]}]
        return [expand(part)]

    config["nav"] = expand(config["nav"])
    for plugin in config["plugins"]:
        if isinstance(plugin, dict) and "mkdocstrings" in plugin:
            plugin["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    return config


def keep_offline(site: Path) -> None:
    """Replaces the script that Zensical loads from elsewhere, for search on a disk, by our own."""
    own = (DOCS / "javascripts" / "search_on_disk.js").read_text(encoding="utf-8")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(_FOREIGN_SCRIPT.sub(lambda _: f"<script>\n{own}</script>", text), "utf-8")


def build(output: Path) -> int:
    """Builds the site in a folder, which is replaced if all went well.

    Returns:
      The exit code.
    """
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        try:
            pages = write_pages(project / "docs")
        except BrokenLink as error:
            print(f"docs: error: {error}", file=sys.stderr)
            return 2
        config = configuration(pages)
        (project / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        done = subprocess.run(command, cwd=project, check=False)
        if done.returncode:
            return done.returncode
        keep_offline(project / "site")
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(project / "site", output)
    print(f"{len(pages)} pages: {output / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"))
