"""The documentation: pages, links, commands and quoted messages are those of the program."""

import ast
import dataclasses
import re
import shlex

import pytest

from ditfuse_jax import cli
from ditfuse_jax.errors import UserError
from ditfuse_jax.train import load_recipe
from docs import build_site
from docs.reference_pages import SECTIONS, attributes, descriptions, settings
from tests.quoted_messages import coverage

ROOT = build_site.ROOT


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Path in the site -> text, with links inside the site."""
    folder = tmp_path_factory.mktemp("site")
    build_site.write_pages(folder)
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.md"))
    }


def test_the_navigation_names_every_page_once(pages):
    named = build_site.nav_pages(build_site.configuration(pages)["nav"])
    assert len(named) == len(set(named))
    assert set(named) == {page for page in pages if not page.startswith("code/")}


def anchors(text: str) -> set[str]:
    """Returns the anchors of a page's headings, as Python-Markdown forms them."""
    found: set[str] = set()
    for part, is_code in build_site.text_parts(text):
        for title in [] if is_code else re.findall(r"^#+ +(.+?)\s*$", part, re.MULTILINE):
            words = re.sub(r"[^\w\s-]", "", title.replace("`", "")).strip().lower()
            found.add(re.sub(r"[-\s]+", "-", words))
    return found


def test_every_link_inside_the_site_leads_to_a_page_and_a_heading(pages):
    links = 0
    for page, text in pages.items():
        for link in build_site.links_of(text):
            if link.startswith(("http", "mailto")):
                continue
            path, _, anchor = link.partition("#")
            target = build_site.relative(page, path) if path else page
            links += 1
            if anchor:
                assert anchor in anchors(pages[target]), f"{page}: {link}"
            else:
                assert target in pages or (build_site.DOCS / target).is_file(), f"{page}: {link}"
    assert links > 150


def test_the_links_of_the_readme_lead_to_files():
    links = build_site.links_of((ROOT / "README.md").read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not link.startswith("http")]
    assert len(local) > 20
    assert [link for link in local if not (ROOT / link).is_file()] == []


def test_a_link_to_nowhere_is_an_error():
    for target in ("nowhere.md", "../nowhere.py", "../../outside.md"):
        with pytest.raises(build_site.BrokenLink, match=re.escape(target)):
            build_site.rewrite_links(f"[x]({target})", "page.md", "docs/page.md", {})


def test_links_in_code_are_left_alone_and_files_lead_to_pages_with_their_text():
    text = "[a](../configs/small.py)\n\n```\n[b](../configs/small.py)\n```\n"
    written = build_site.rewrite_links(text, "x/page.md", "docs/page.md", {})
    assert written == text.replace("[a](../configs/small.py)", "[a](../code/configs/small.py.md)")


def commands(text: str) -> list[str]:
    """Returns the `ditfuse` lines of a page's blocks; one with `...` is a pattern."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shell = [block for language, block in blocks if language in ("", "bash", "text")]
    lines = "".join(shell).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("ditfuse ") and "..." not in line]


WRITTEN = [*build_site.written_pages(), "README.md"]
COMMANDS = sorted(
    {
        (page, line)
        for page in WRITTEN
        for line in commands((ROOT / page).read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_of_a_page_is_accepted(page, line):
    _, *words = shlex.split(line, comments=True)
    if words == ["--version"]:
        return
    parser, _ = cli._parsers(words[0])
    try:
        arguments, rest = parser.parse_known_args(words)
    except (SystemExit, UserError) as error:
        pytest.fail(f"{page}: {line}: {error}")
    assert not rest or getattr(arguments, "accepts_overrides", False), f"{page}: {line}"
    is_bundled = (ROOT / "configs" / f"{getattr(arguments, 'config', '')}.py").is_file()
    if words[0] in ("train", "distill") and is_bundled:
        load_recipe(arguments.config, rest)


@pytest.mark.parametrize("page", WRITTEN)
def test_the_bundled_model_which_has_no_run_folder_is_evaluated_into_a_named_one(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for line in [*commands(text), *re.findall(r"`(ditfuse evaluate [^`]+)`", text)]:
        words = line.split()
        if words[1] == "evaluate" and "small" in words and "--sequence" not in words:
            assert {"-o", "--output"} & set(words), line


def submissions() -> list[str]:
    """Returns the commands that show what is submitted to a cluster: of pages, helps, examples."""
    sources = [*(ROOT / "ditfuse_jax" / "cli").glob("*.py"), *(ROOT / "launch").rglob("*.py")]
    lines = [line for _, line in COMMANDS]
    for path in sources:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines += [line.strip() for line in text.splitlines()]
    named = re.compile(r"ditfuse sweep .*--(slurm|jobset) launch/examples/\S+ --dry-run")
    return sorted({line for line in lines if named.match(line)})


@pytest.mark.parametrize("line", submissions())
def test_every_submission_that_a_page_or_a_help_shows_can_be_shown(line, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    assert cli.main(words[1:]) == 0, capsys.readouterr().err
    assert f"{words[words.index('--workdir') + 1]}/runs/" in capsys.readouterr().out


def test_the_commands_of_pages_are_found():
    assert len(COMMANDS) > 100
    assert len({page for page, _ in COMMANDS}) > 15
    assert {"--slurm", "--jobset"} <= {word for line in submissions() for word in line.split()}


def test_every_setting_is_described():
    assert set(settings()) == set(descriptions())
    assert all(descriptions().values())


def test_descriptions_come_from_docstrings():
    texts = attributes(SECTIONS["train"])
    assert texts["accumulation"].startswith("micro-batches whose gradients are averaged")
    names = {field.name for field in dataclasses.fields(SECTIONS["train"])}
    assert set(texts) == names


def quoted() -> list[str]:
    """Returns the messages that the page on troubleshooting quotes."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| message \|.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    rows = [line for table in tables for line in table.splitlines()[2:]]
    return [row.split(" | ")[0].removeprefix("| ").strip("`") for row in rows]


@pytest.mark.medium
def test_every_message_under_troubleshooting_is_one_of_the_program():
    assert len(quoted()) >= 30
    for line in quoted():
        assert coverage(line) >= 0.7, line
