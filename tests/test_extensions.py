"""Extensions: modules outside the package that register their own implementations."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ditfuse_jax import extensions
from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import (
    load_available_extensions,
    load_extensions,
    loaded_extensions,
    missing_extensions,
)
from ditfuse_jax.registry import Registry

REGISTRY = Registry("number")

# `tests` is no package, so an extension finds this test's registry by the name of its module.
REGISTER = f"""
import sys
sys.modules[{__name__!r}].REGISTRY.register({{name!r}}, {{value}})
"""


@pytest.fixture(autouse=True)
def only_this_tests_extensions(monkeypatch):
    """Restores what a test registers and imports."""
    monkeypatch.setattr(sys.modules[__name__], "REGISTRY", Registry("number", {"one": 1}))
    monkeypatch.setattr(extensions, "_loaded", {})
    monkeypatch.setattr(extensions, "_not_found", {})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("ditfuse_extension_", "extension_package")):
            del sys.modules[name]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(REGISTER.format(name="two", value=2))
    return path


def test_a_file_registers_when_it_is_loaded(file):
    assert "two" not in REGISTRY
    load_extensions([str(file)])
    assert REGISTRY["two"] == 2


def test_a_file_is_loaded_once(file):
    for _ in range(2):  # a second import would register the name again
        load_extensions([str(file)])
    assert loaded_extensions() == (str(file),)


@pytest.mark.parametrize("name", ["/nowhere/six.py", "nowhere_package", "nowhere_package.six"])
def test_an_unknown_name_is_reported_with_the_missing_extension_of_a_trained_model(name, file):
    load_available_extensions([name, str(file)])
    assert REGISTRY.find("two") == 2
    message = rf"number 'six' is unknown; .* \(extension not found: {name}; .* give --import FILE_"
    with pytest.raises(UserError, match=message):
        REGISTRY.find("six")


def test_an_extension_that_was_moved_and_imported_is_not_missing(file):
    load_available_extensions(["/nowhere/two.py"])
    assert missing_extensions() == ("/nowhere/two.py",)
    load_extensions([str(file)])
    assert missing_extensions() == ()


def test_a_broken_extension_of_a_trained_model_is_refused(file):
    file.write_text("import nowhere_package")
    with pytest.raises(UserError, match=r"two\.py cannot be imported: ModuleNotFoundError"):
        load_available_extensions([str(file)])


def test_names_are_returned_with_absolute_paths(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert load_extensions(["two.py", "json"]) == (str(file), "json")
    assert loaded_extensions() == (str(file), "json")


def test_a_module_is_imported_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "extension_package").mkdir()
    code = REGISTER.format(name="three", value=3)
    (tmp_path / "extension_package" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    load_extensions(["extension_package"])
    assert REGISTRY["three"] == 3


def test_a_copy_of_a_loaded_file_counts_as_loaded(file, tmp_path):
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "two.py"
    copy.write_bytes(file.read_bytes())
    load_extensions([str(file), str(copy)])
    assert loaded_extensions() == (str(file),)


def test_the_former_place_of_a_loaded_file_counts_as_loaded(file, tmp_path):
    former = str(tmp_path / "former" / "two.py")
    with pytest.raises(
        UserError, match=r"former/two\.py: no such file; if it was moved, give --im"
    ):
        load_extensions([former])
    assert load_extensions([str(file), former]) == (str(file), str(file))


def test_another_file_of_the_same_name_is_refused(file, tmp_path):
    load_extensions([str(file)])
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "two.py"
    other.write_text(REGISTER.format(name="four", value=4))
    with pytest.raises(UserError, match=r"two\.py and .*two\.py have the same file name"):
        load_extensions([str(other)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", r"extension .*missing\.py: no such file"),
        ("no_such_module", "extension no_such_module cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_missing_extension_is_refused_by_name(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_extensions([name])


def test_a_failing_file_is_named_with_its_error_and_can_be_corrected(file):
    code = file.read_text()
    file.write_text("import math\nmath.half(\n  1)")
    with pytest.raises(
        UserError, match=r"two\.py cannot .* AttributeError: .*half.* \(.*two\.py:2\)"
    ):
        load_extensions([str(file)])
    assert not loaded_extensions()
    file.write_text(code)
    load_extensions([str(file)])
    assert REGISTRY["two"] == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys\n\nsys.exit(3)", r"two\.py cannot be imported: SystemExit: 3 \(.*two\.py:3\)"),
        ("def f():\n    name_error\n\nf()", r"NameError: name .* \(.*two\.py:2\)"),
        ("1 +", r"two\.py cannot be imported: SyntaxError: .*line 1"),
    ],
)
def test_the_line_of_a_failure_is_given(code, message, file):
    file.write_text(code)
    with pytest.raises(UserError, match=message):
        load_extensions([str(file)])


def test_a_user_error_of_an_extension_is_given_as_it_is(file, tmp_path):
    load_extensions([str(file)])
    other = tmp_path / "other.py"
    other.write_text(REGISTER.format(name="two", value=3))
    message = r"other\.py cannot be imported: number 'two' is .* by .*two\.py: .*other\.py:3\)"
    with pytest.raises(UserError, match=message):
        load_extensions([str(other)])


def test_a_file_given_without_its_ending_is_suggested(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    with pytest.raises(UserError, match=r"No module named 'two' *; did you mean two\.py\?"):
        load_extensions(["two"])


PROGRAM = """
from ditfuse_jax.registry import Registry
NUMBERS = Registry("number", {"one": 1})
assert NUMBERS["one"] == 1
import sys
assert "plugin_of_a_test" not in sys.modules, "known names import no plugins"
print(*NUMBERS, NUMBERS.get("two"))
"""


def installed(folder: Path, code: str) -> dict[str, str]:
    """Writes an installed package with an entry point; returns the environment to use it."""
    info = folder / "plugin_of_a_test-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
    points = "[ditfuse_jax.extensions]\nnumbers = plugin_of_a_test\n"
    (info / "entry_points.txt").write_text(points)
    (folder / "plugin_of_a_test.py").write_text(code)
    paths = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "output", "error"),
    [
        ("import __main__\n__main__.NUMBERS.register('two', 2)", "one two 2", ""),
        # An extension may itself look names up while it is imported.
        (
            "import __main__\n__main__.NUMBERS.register('two', 1 + len(list(__main__.NUMBERS)))",
            "one two 2",
            "",
        ),
        ("1 / 0", "", "numbers = plugin_of_a_test cannot be imported: ZeroDivisionError"),
    ],
)
def test_an_entry_point_is_loaded_at_the_first_unknown_name(code, output, error, tmp_path):
    environment = installed(tmp_path, code)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == output
    assert error in done.stderr
