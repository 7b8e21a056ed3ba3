"""Compiled programs are dropped before they use up the memory maps of the process."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.sample.program_cache import free_compiled_programs

pytestmark = pytest.mark.medium

MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(sys.platform != "linux", reason="memory maps are counted on Linux only")
@pytest.mark.slow
def test_dropping_programs_frees_their_maps_and_the_functions_still_run(tmp_path):
    limit = tmp_path / "max_map_count"

    @jax.jit
    def program(x):
        return jnp.fft.fft(jnp.sort(x @ x.T, axis=0)).real.sum()

    images = [np.ones((size, size), np.float32) for size in range(40, 60)]
    before = MAPS.read_bytes().count(b"\n")
    results = [float(program(image)) for image in images]
    full = MAPS.read_bytes().count(b"\n")
    assert full > before + 20
    limit.write_text("65530\n")
    assert not free_compiled_programs(max_maps=limit)
    limit.write_text(f"{full}\n")
    assert free_compiled_programs(max_maps=limit)
    assert MAPS.read_bytes().count(b"\n") < full - 0.5 * (full - before)
    assert [float(program(image)) for image in images] == results


@pytest.mark.parametrize("text", ["", "many"])
def test_nothing_is_dropped_where_the_kernel_has_no_such_files(tmp_path, text):
    assert not free_compiled_programs(tmp_path / "none", tmp_path / "none")
    (tmp_path / "odd").write_text(text)
    assert not free_compiled_programs(tmp_path / "odd", tmp_path / "odd")
