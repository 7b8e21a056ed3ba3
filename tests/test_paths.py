"""What users give becomes a path, local or in an object store; other schemes are refused."""

import pickle
import sys
from pathlib import Path

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path, is_remote


def test_a_local_path_is_that_of_pathlib_with_its_tilde_expanded():
    assert as_path("~/runs/x") == Path.home() / "runs" / "x"
    assert as_path(Path("runs")) == Path("runs") and isinstance(as_path("runs"), Path)
    assert as_path("12:30.png") == Path("12:30.png")
    assert not is_remote(as_path("runs"))


def test_an_empty_path_is_not_the_working_folder():
    with pytest.raises(UserError, match=r"^an empty path: name a file or folder"):
        as_path("")
    assert as_path(".") == Path()


def test_a_nul_character_is_one_line():
    with pytest.raises(UserError, match=r"^a\\x00b\.png: holds a NUL character"):
        as_path("a\0b.png")


def test_a_user_that_does_not_exist_is_one_line():
    with pytest.raises(UserError, match="~nobody-of-that-name/x: there is no such user"):
        as_path("~nobody-of-that-name/x")


@pytest.mark.parametrize("address", ["gs://bucket/runs/x", "s3://bucket/runs/x"])
def test_an_address_keeps_its_scheme_through_joining_parents_and_pickling(address):
    path = as_path(address)
    assert is_remote(path) and str(path) == address
    assert str(path / "a" / "b.txt") == f"{address}/a/b.txt"
    assert str(path.parent) == address.rpartition("/")[0]
    assert str(path.with_name("y")) == address.replace("/x", "/y")
    assert path.name == "x" and path.expanduser() == path.absolute() == path
    again = pickle.loads(pickle.dumps(path))
    assert again == path and is_remote(again) and type(again) is type(path)
    assert as_path(path) is path


@pytest.mark.parametrize("address", ["gs://bucket/runs/x", "s3://bucket/runs/x"])
def test_what_pathlib_made_of_an_address_is_still_the_address(address):
    assert str(as_path(Path(address))) == address


@pytest.mark.parametrize(
    "address", ["az://bucket/x", "az:/bucket/x", "hf:owner/name", "http://host/x", "file:///tmp/x"]
)
def test_another_scheme_is_refused_by_name_together_with_those_that_work(address):
    scheme = address.partition(":")[0]
    with pytest.raises(UserError, match=rf"{scheme}: is not supported: .*gs:// or s3://"):
        as_path(address)


def test_an_address_without_a_bucket_is_refused():
    with pytest.raises(UserError, match="gs:// names no bucket"):
        as_path("gs://")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gcsfs is not installed: .*ditfuse-jax\[gcs\]"):
        as_path("gs://bucket/x")


@pytest.mark.processes
def test_local_paths_import_no_library_of_object_stores(run_python):
    code = (
        "import sys\n"
        "from ditfuse_jax import files, paths\n"
        "paths.as_path('~/x')\n"
        "print([n for n in ('etils', 'fsspec', 'gcsfs', 's3fs') if n in sys.modules])"
    )
    assert run_python(code).strip() == "[]"


@pytest.fixture
def run_python():
    import subprocess

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run
