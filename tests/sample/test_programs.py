"""Compiled programs and the memory maps they take."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.sample.programs import make_room_for_programs

MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(sys.platform != "linux", reason="maps are counted on Linux only")
def test_forgetting_programs_gives_their_maps_back_and_they_still_run(tmp_path):
    most = tmp_path / "max_map_count"

    @jax.jit
    def program(x):
        return jnp.fft.fft(jnp.sort(x @ x.T, axis=0)).real.sum()

    images = [np.ones((size, size), np.float32) for size in range(40, 60)]
    before = MAPS.read_bytes().count(b"\n")
    results = [float(program(image)) for image in images]
    full = MAPS.read_bytes().count(b"\n")
    assert full > before + 20
    most.write_text("65530\n")
    assert not make_room_for_programs(most=most)
    most.write_text(f"{full}\n")
    assert make_room_for_programs(most=most)
    assert MAPS.read_bytes().count(b"\n") < full - 0.5 * (full - before)
    assert [float(program(image)) for image in images] == results


@pytest.mark.parametrize("text", ["", "many"])
def test_where_the_kernel_does_not_tell_nothing_is_forgotten(tmp_path, text):
    assert not make_room_for_programs(tmp_path / "none", tmp_path / "none")
    (tmp_path / "odd").write_text(text)
    assert not make_room_for_programs(tmp_path / "odd", tmp_path / "odd")
