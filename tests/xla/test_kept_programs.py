"""Compiled programs that are kept on disk."""

import concurrent.futures
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax import registry
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import PROGRAMS_VARIABLE
from ditfuse_jax.xla import kept_programs
from ditfuse_jax.xla.kept_programs import KeptProgram, free_loaded

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where programs are kept, as if nothing had been registered from outside."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, str(tmp_path / "programs"))
    monkeypatch.setattr(registry, "_outside", 0)
    monkeypatch.setattr(kept_programs, "loaded_extensions", lambda: ())
    monkeypatch.setattr(kept_programs, "_unusable", set())
    free_loaded()
    yield tmp_path / "programs"
    free_loaded()


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self, factor: float = 2.0):
        self.factor, self.count = factor, 0

    def program(self, *parts) -> KeptProgram:
        def run(x, tree):
            self.count += 1
            return {"y": jnp.sin(x) * self.factor + tree[0]}

        return KeptProgram(run, *(parts or (self.factor,)))


def call(program, x=X):
    return np.asarray(program(x, (np.float32(1), jnp.ones(3)))["y"])


def expected(factor=2.0, x=X):
    return np.asarray(jax.jit(lambda x: jnp.sin(x) * factor + 1)(x))


def test_another_process_does_not_trace_it_again(folder):
    first, second = Traced(), Traced()
    np.testing.assert_array_equal(call(first.program()), expected())
    free_loaded()  # as in a new process
    np.testing.assert_array_equal(call(second.program()), expected())
    assert (first.count, second.count) == (1, 0)
    assert len(list(folder.iterdir())) == 1


def test_what_it_computes_with_and_the_types_of_its_arguments_tell_programs_apart(folder):
    for factor, x in ((2.0, X), (3.0, X), (3.0, X[:, :1]), (3.0, X.astype(np.float16))):
        traced = Traced(factor)
        np.testing.assert_allclose(call(traced.program(), x), expected(factor, x), rtol=1e-3)
        assert traced.count == 1
    assert len(list(folder.iterdir())) == 4


def test_changed_code_is_compiled_again(folder, monkeypatch):
    call(Traced().program())
    free_loaded()
    monkeypatch.setattr(kept_programs, "_environment", lambda: "edited")
    traced = Traced(5.0)
    np.testing.assert_array_equal(call(traced.program("same parts")), expected(5.0))
    assert traced.count == 1


def test_an_edited_file_of_the_package_changes_the_key(tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text("A = 1\n", encoding="utf-8")
    monkeypatch.setattr(kept_programs, "_PACKAGE", tmp_path)
    before = kept_programs._code()
    assert kept_programs._code() == before
    (tmp_path / "module.py").write_text("A = 22\n", encoding="utf-8")
    assert kept_programs._code() != before


def test_a_changed_setting_of_jax_is_another_program(folder):
    traced = Traced()
    program = traced.program()
    call(program)
    with jax.default_matmul_precision("highest"):
        call(program)
    assert traced.count == 2
    assert len(list(folder.iterdir())) == 2


TYPES = jax.ShapeDtypeStruct(X.shape, X.dtype), (np.float32(1), jnp.ones(3))


def test_what_was_prepared_is_traced_once_and_kept(folder):
    traced = Traced()
    program = traced.program()
    types = program.prepare(*TYPES)["y"]
    assert (types.shape, types.dtype) == (X.shape, X.dtype)
    np.testing.assert_array_equal(call(program), expected())
    free_loaded()  # as in a new process
    other = Traced()
    types = other.program().prepare(*TYPES)["y"]
    assert (types.shape, types.dtype) == (X.shape, X.dtype)
    np.testing.assert_array_equal(call(other.program()), expected())
    assert (traced.count, other.count) == (1, 0)


def test_nothing_is_prepared_where_nothing_is_kept(monkeypatch):
    monkeypatch.delenv(PROGRAMS_VARIABLE, raising=False)
    traced = Traced()
    assert traced.program().prepare(*TYPES) is None
    assert traced.count == 0


def test_threads_that_need_a_program_at_the_same_time_share_it(folder):
    traced = Traced()
    program = traced.program()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: call(program), range(4)))
    for result in results:
        np.testing.assert_array_equal(result, expected())
    assert traced.count == 1


def test_a_failure_is_raised_by_every_call(folder):
    attempts = []

    def run(x):
        attempts.append(x)
        raise UserError("cannot be traced")

    program = KeptProgram(run, "fails")
    for use in (program.prepare, program, program):
        with pytest.raises(UserError, match="cannot be traced"):
            use(X)
    assert len(attempts) == 3  # nothing is remembered


@pytest.mark.parametrize("on", [True, False])
def test_jax_s_own_cache_stays_on_or_off_while_threads_compile(folder, on):
    jax.config.update("jax_enable_compilation_cache", on)
    try:
        programs = [Traced(factor).program() for factor in (2.0, 3.0, 4.0)]
        for program in programs:
            program.prepare(*TYPES)
        for program in programs:
            call(program)
        assert jax.config.values["jax_enable_compilation_cache"] == on
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


@pytest.mark.parametrize("on", [True, False])
def test_jax_s_own_cache_stays_on_or_off(folder, on):
    jax.config.update("jax_enable_compilation_cache", on)
    try:
        call(Traced().program())
        assert jax.config.values["jax_enable_compilation_cache"] == on
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


def test_programs_that_were_not_used_for_a_month_are_removed(folder):
    call(Traced().program())
    (old,) = folder.iterdir()
    stamp = time.time() - 31 * 86_400
    os.utime(old, (stamp, stamp))
    call(Traced(3.0).program())
    assert not old.exists()
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_a_file_that_cannot_be_removed_does_not_make_the_folder_unusable(
    folder, monkeypatch, error
):
    call(Traced().program())
    (old,) = folder.iterdir()
    stamp = time.time() - 31 * 86_400
    os.utime(old, (stamp, stamp))

    def unlink(path, missing_ok=False):
        raise error(path)

    monkeypatch.setattr(type(old), "unlink", unlink)
    call(Traced(3.0).program())
    assert kept_programs.programs_folder() == folder
    assert len(list(folder.glob("*.bin"))) == 2


def test_what_a_killed_process_left_half_written_is_removed_after_a_day(folder):
    folder.mkdir()
    for name, hours in (("old", 25), ("new", 1)):
        path = folder / f".{name}.tmp"
        path.write_bytes(b"half of a program")
        stamp = time.time() - hours * 3600
        os.utime(path, (stamp, stamp))
    call(Traced().program())
    assert [path.name for path in folder.glob(".*")] == [".new.tmp"]


@pytest.mark.processes
def test_on_a_host_with_several_devices_the_first_is_used(tmp_path):
    code = (
        "import jax, numpy as np\n"
        "from ditfuse_jax.xla.kept_programs import KeptProgram\n"
        "one, two = jax.local_devices()\n"
        "program = KeptProgram(lambda x: 2 * x, 'double')\n"
        "assert float(program(np.float32(3))) == 6\n"
        "assert float(program(jax.device_put(np.float32(4), two))) == 8\n"
        "for default, device in ((two, two), (one, one), ('cpu', one)):\n"
        "    with jax.default_device(default):\n"
        "        assert program(np.float32(3)).devices() == {device}\n"
        "        x = jax.ShapeDtypeStruct((), np.float32)\n"
        "        assert (program.prepare(x) is None) == (device == two)\n"
        "        assert program(jax.device_put(np.float32(4), one)).devices() == {one}\n"
    )
    environment = os.environ | {
        PROGRAMS_VARIABLE: str(tmp_path),
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_PLATFORMS": "cpu",
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert len(list(tmp_path.iterdir())) == 4  # for each default, and without one


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04N."])
def test_a_damaged_file_is_replaced(folder, content):
    call(Traced().program())
    (path,) = folder.iterdir()
    path.write_bytes(content)
    free_loaded()
    traced = Traced()
    np.testing.assert_array_equal(call(traced.program()), expected())
    assert traced.count == 1
    assert path.read_bytes() != content


def test_a_folder_that_cannot_be_written_changes_nothing(folder):
    folder.write_text("a file", encoding="utf-8")
    traced = Traced()
    for _ in range(2):
        np.testing.assert_array_equal(call(traced.program()), expected())
    assert folder.read_text(encoding="utf-8") == "a file"
    assert kept_programs.programs_folder() is None  # JAX's own cache is used instead


@pytest.mark.parametrize("reason", ["no folder", "registered", "extension"])
def test_nothing_is_kept_where_the_key_would_not_cover_the_code(folder, monkeypatch, reason):
    if reason == "no folder":
        monkeypatch.delenv(PROGRAMS_VARIABLE)
    if reason == "registered":
        monkeypatch.setattr(registry, "_outside", 1)
    if reason == "extension":
        monkeypatch.setattr(kept_programs, "loaded_extensions", lambda: ("mine.py",))
    np.testing.assert_array_equal(call(Traced().program()), expected())
    assert not folder.exists()


def test_inside_another_traced_function_it_is_that_function(folder):
    program = Traced().program()
    outer = jax.jit(lambda x: program(x, (jnp.float32(1), jnp.ones(3)))["y"])
    np.testing.assert_allclose(outer(X), expected(), rtol=1e-6)
    assert not folder.exists()


@pytest.mark.medium
@pytest.mark.processes
def test_the_command_fuses_the_same_image_with_new_kept_and_no_programs(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    from ditfuse_jax.images import read_image, write_image

    sources = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in sources:
        write_image(path, rng.integers(0, 256, (170, 200, 3), dtype=np.uint8))
    images = []
    for run, programs in enumerate((tmp_path / "programs", tmp_path / "programs", "")):
        monkeypatch.setenv(PROGRAMS_VARIABLE, str(programs))
        out = tmp_path / f"{run}.png"
        words = ["fuse", *map(str, sources), "-o", str(out), "--task", "mff"]
        done = subprocess.run(
            [sys.executable, "-m", "ditfuse_jax", *words], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        images.append(read_image(out))
        if run == 0:
            kept = {p.name: p.stat().st_ino for p in (tmp_path / "programs").iterdir()}
            assert len(kept) >= 4  # two programs of the tiles, the noise, the shapes
    assert kept == {p.name: p.stat().st_ino for p in (tmp_path / "programs").iterdir()}
    np.testing.assert_array_equal(images[1], images[0])
    np.testing.assert_array_equal(images[2], images[0])
