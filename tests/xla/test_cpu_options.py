"""XLA's options with which programs for CPUs are compiled in less time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.xla import cpu_options
from ditfuse_jax.xla.cpu_options import quick_options


@pytest.fixture
def asked_again():
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


def test_results_differ_by_rounding_only():
    x = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)

    def function(x):
        return jax.nn.softmax(jnp.tanh(x @ x.T) / 3) @ jax.nn.silu(x)

    quick = jax.jit(function, compiler_options=quick_options())(x)
    np.testing.assert_allclose(quick, jax.jit(function)(x), rtol=1e-5, atol=1e-6)
