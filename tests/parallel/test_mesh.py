"""Mesh factors and the number of devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import AXES, MeshConfig

FACTORS = (*AXES, *(f"dcn_{axis}" for axis in AXES))


@given(st.lists(st.integers(1, 4), min_size=8, max_size=8), st.integers(0, 7))
def test_the_free_factor_is_set_to_the_remaining_devices(factors, free):
    inner_and_cross = dict(zip(FACTORS, factors, strict=True))
    devices = 1
    for factor in factors:
        devices *= factor
    config = MeshConfig(**(inner_and_cross | {FACTORS[free]: -1}))
    inner, cross = config.resolve(devices)
    assert (*inner, *cross) == tuple(factors)


def test_by_default_all_devices_are_data_parallel():
    assert MeshConfig().resolve(8) == ((8, 1, 1, 1), (1, 1, 1, 1))


def test_factors_with_another_product_are_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"data=2, fsdp=3.*8 devices"):
        MeshConfig(data=2, fsdp=3).resolve(8)


@pytest.mark.parametrize("tensor", [3, 16])
def test_a_factor_that_does_not_divide_the_devices_is_refused(tensor):
    with pytest.raises(UserError, match=rf"tensor={tensor}.*8 devices"):
        MeshConfig(tensor=tensor).resolve(8)


def test_two_free_factors_are_refused_by_name():
    with pytest.raises(UserError, match=r"mesh\.data and mesh\.dcn_fsdp"):
        MeshConfig(dcn_fsdp=-1)


@pytest.mark.parametrize("factor", [0, -2])
def test_factors_below_one_are_refused_by_name(factor):
    with pytest.raises(UserError, match=rf"mesh\.tensor must be at least 1, or -1, not {factor}"):
        MeshConfig(tensor=factor)
