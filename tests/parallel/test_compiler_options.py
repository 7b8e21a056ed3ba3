"""Options of XLA's compiler: which ones a device gets, and what the compiler refuses."""

import types

import jax
import jax.numpy as jnp
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import compiler_options as module
from ditfuse_jax.parallel.accelerators import TPUS
from ditfuse_jax.parallel.compiler_options import (
    COMPILER_OPTIONS,
    check_compiler_options,
    compile_with_options,
    compiler_options,
)
from ditfuse_jax.xla.user_flags import ENVIRONMENT

V6E = types.SimpleNamespace(device_kind="TPU v6 lite")
KNOWN = {"xla_first": "1", "xla_second": "true"}


@pytest.fixture(autouse=True)
def options(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "COMPILER_OPTIONS", {"v6e": KNOWN})


def test_auto_stands_for_the_options_of_the_chip():
    assert compiler_options(("auto",), V6E) == KNOWN
    assert compiler_options((), V6E) == {}
    assert compiler_options(("auto",), jax.devices("cpu")[0]) == {}


def test_a_later_entry_wins():
    given = ("auto", "xla_second=false", "xla_third=a=b")
    assert compiler_options(given, V6E) == KNOWN | {"xla_second": "false", "xla_third": "a=b"}
    assert compiler_options(given[::-1], V6E) == KNOWN | {"xla_third": "a=b"}


def test_the_users_own_flags_win_over_auto(monkeypatch):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_other=1 --xla_first=2")
    assert compiler_options(("auto",), V6E) == {"xla_second": "true"}
    assert compiler_options(("auto", "xla_first=3"), V6E)["xla_first"] == "3"


@pytest.mark.parametrize("entry", ["xla_first", "=1", "xla_first=", "--xla_first=1", "all"])
def test_a_malformed_entry_is_refused(entry):
    with pytest.raises(UserError, match="neither 'auto' nor NAME=VALUE"):
        check_compiler_options(("auto", entry))


@pytest.mark.parametrize("entry", ["xla_no_such_option=true", "xla_cpu_enable_fast_math=perhaps"])
def test_an_option_that_the_compiler_refuses_is_named(entry):
    name, _, value = entry.partition("=")
    lowered = jax.jit(jnp.sin).lower(jnp.zeros(3))
    with pytest.raises(UserError, match=rf"train\.compiler_options: .* refuses {entry}"):
        compile_with_options(lowered, {"xla_cpu_enable_fast_min_max": "true", name: value})


def test_an_option_of_the_table_that_the_compiler_refuses_is_left_out_with_a_line(capsys):
    lowered = jax.jit(lambda x: x * 2).lower(jnp.zeros(3))
    fine = {"xla_cpu_enable_fast_min_max": "true"}
    assert compile_with_options(lowered, fine | KNOWN)(jnp.ones(3)).tolist() == [2, 2, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("is left out: this compiler refuses it" in line for line in lines)


def test_options_reach_the_compiler():
    lowered = jax.jit(lambda x: x * 2).lower(jnp.zeros(3))
    compiled = compile_with_options(lowered, {"xla_cpu_enable_fast_min_max": "true"})
    assert compiled(jnp.ones(3)).tolist() == [2, 2, 2]


def test_every_table_is_of_a_known_chip_and_holds_text():
    assert set(COMPILER_OPTIONS) <= set(TPUS) | {"h100", "h200"}
    for table in COMPILER_OPTIONS.values():
        assert all(isinstance(text, str) for pair in table.items() for text in pair)
