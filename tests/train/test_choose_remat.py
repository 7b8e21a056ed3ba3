"""`model.remat=auto`: which policy a device gets, from the compiler's sizes."""

import types

import jax
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.remat import AUTO, REMAT_POLICIES
from ditfuse_jax.parallel import device_memory
from ditfuse_jax.train.choose_remat import CANDIDATES, choose_remat, program_bytes

GIB = 2**30
# GiB that a step needs; None: the compiler itself refuses it.
NEEDS = {"none": None, "projections": 40.0, "attention": 18.0, "full": 12.0, "offload": 11.0}


class Compiler:
    """Compiles nothing; knows what each policy needs."""

    def __init__(self, error="RESOURCE_EXHAUSTED: Ran out of memory"):
        self.compiled, self.error = [], error

    def __call__(self, name):
        self.compiled.append(name)
        needed = NEEDS[name]
        if needed is None:
            raise jax.errors.JaxRuntimeError(self.error)
        sizes = types.SimpleNamespace(
            argument_size_in_bytes=4 * GIB,
            output_size_in_bytes=3 * GIB,
            alias_size_in_bytes=3 * GIB,
            temp_size_in_bytes=int((needed - 4) * GIB),
            generated_code_size_in_bytes=0,
        )
        return types.SimpleNamespace(name=name, memory_analysis=lambda: sizes)


@pytest.mark.parametrize(
    ("gib", "expected", "compiled"),
    [
        (80, "projections", 2),
        (41, "attention", 3),  # 40 fit into 41, but without room for anything else
        (32, "attention", 3),
        (16, "full", 4),
        (11.8, "offload", 5),
    ],
)
def test_the_first_policy_that_fits_is_taken_with_its_program(gib, expected, compiled):
    compiler = Compiler()
    choice = choose_remat(compiler, int(gib * GIB))
    assert choice.name == choice.compiled.name == expected
    assert compiler.compiled == list(CANDIDATES[:compiled])
    assert f"needs {NEEDS[expected]:.2f} of {gib:.2f} GiB" in choice.reason
    assert "none does not fit" in choice.reason


def test_a_step_that_fits_under_no_policy_is_refused_with_what_each_needs():
    with pytest.raises(UserError, match=r"8\.00 GiB.*attention needs 18\.00.*data\.batch_size"):
        choose_remat(Compiler(), 8 * GIB)


def test_what_cannot_fit_is_not_compiled():
    compiler = Compiler()
    bounds = {"none": 50.0, "projections": 30.0, "attention": 16.0, "full": 10.0, "offload": 9.0}
    choice = choose_remat(compiler, 20 * GIB, lambda name: int(bounds[name] * GIB))
    assert (choice.name, compiler.compiled) == ("attention", ["attention"])
    assert "none needs at least 50.00; projections needs at least 30.00" in choice.reason


def test_without_a_limit_nothing_is_recomputed_and_nothing_compiled():
    compiler = Compiler()
    assert choose_remat(compiler, None).name == "none"
    assert compiler.compiled == []


def test_other_errors_of_the_compiler_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        choose_remat(Compiler("INTERNAL: check failed"), 80 * GIB)


def test_the_candidates_are_all_policies_of_this_package():
    assert set(CANDIDATES) == set(REMAT_POLICIES) - {AUTO}


def test_reused_buffers_count_once():
    def add(x):
        return x + 1

    x = np.zeros(2**20, np.float32)
    kept, reused = (
        program_bytes(jax.jit(add, donate_argnums=donated).lower(x).compile().memory_analysis())
        for donated in ((), (0,))
    )
    assert kept - reused == x.nbytes


class Device:
    """A device of this process that reports its memory."""

    platform, process_index = "gpu", 0

    def __init__(self, limit):
        self.limit = limit

    def memory_stats(self):
        return {"bytes_limit": self.limit} if self.limit else None


def test_the_smallest_device_limits(monkeypatch):
    devices = [Device(7), Device(5)]
    monkeypatch.setattr(device_memory.jax, "devices", lambda: devices)
    assert device_memory.memory_limit(devices) == 5
    assert device_memory.memory_limit(devices[:1]) == 7


def test_devices_that_report_nothing_have_no_limit(monkeypatch):
    devices = [Device(0)]
    monkeypatch.setattr(device_memory.jax, "devices", lambda: devices)
    assert device_memory.memory_limit(devices) is None
    assert device_memory.memory_limit(jax.local_devices(backend="cpu")) is None


def test_an_absent_tpu_has_the_memory_of_its_chip():
    absent = types.SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
    assert device_memory.memory_limit([absent]) == 16 * GIB
