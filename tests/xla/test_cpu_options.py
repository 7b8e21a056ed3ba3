"""XLA's options with which programs for CPUs are compiled in less time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.xla import cpu_options
from ditfuse_jax.xla.cpu_options import quick_options


@pytest.fixture
def asked_again(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    quick_options.cache_clear()
    yield
    quick_options.cache_clear()


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch, asked_again):
    known = {"xla_backend_optimization_level": 1}
    monkeypatch.setattr(cpu_options, "_QUICK", known | {"xla_cpu_no_such_option": True})
    assert quick_options() == known


def test_a_device_that_is_no_cpu_gets_none(monkeypatch, asked_again):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert quick_options() == {}


@pytest.mark.parametrize("in_a_file", [True, False])
def test_an_option_that_the_user_has_set_stays_as_it_is(
    monkeypatch, asked_again, tmp_path, in_a_file
):
    flags = "--xla_backend_optimization_level=3 --xla_cpu_parallel_codegen_split_count=1"
    if in_a_file:  # which XLA reads, too
        (tmp_path / "flags").write_text(flags)
        flags = str(tmp_path / "flags")
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert set(quick_options()) <= {"xla_cpu_use_fusion_emitters"}


def test_results_differ_by_rounding_only(asked_again):
    x = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)

    def function(x):
        return jax.nn.softmax(jnp.tanh(x @ x.T) / 3) @ jax.nn.silu(x)

    quick = jax.jit(function, compiler_options=quick_options())(x)
    np.testing.assert_allclose(quick, jax.jit(function)(x), rtol=1e-5, atol=1e-6)
