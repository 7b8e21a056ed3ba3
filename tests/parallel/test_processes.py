"""Joining other processes by the environment's word."""

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.processes import initialize, is_main

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables given and no others."""

    def set_only(**values: str):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_only


def test_without_a_coordinator_one_process_is_the_whole_program(environment):
    environment()
    initialize()
    assert is_main()


@pytest.mark.parametrize(
    "incomplete",
    [
        {"JAX_NUM_PROCESSES": "2"},
        {"JAX_PROCESS_ID": "0"},
        {"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
    ],
)
def test_incomplete_variables_are_named_before_anything_waits(environment, incomplete):
    environment(JAX_COORDINATOR_ADDRESS="localhost:1", **incomplete)
    with pytest.raises(UserError, match=r"JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        initialize()
