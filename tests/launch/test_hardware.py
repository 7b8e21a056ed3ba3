"""Which kinds, topologies and host sizes exist."""

import re

import pytest

from launch import Cpu, Gpu, LaunchError, Tpu
from launch.hardware import TPUS


@pytest.mark.parametrize(
    ("kind", "topology", "hosts", "chips"),
    [
        ("v5e", "1x1", 1, 1),
        ("v5e", "2x2", 1, 4),
        ("v5e", "4x4", 4, 16),
        ("v5e", "16x16", 64, 256),
        ("v5p", "2x2x1", 1, 4),
        ("v5p", "2x4x4", 8, 32),
        ("v5p", "4x4x8", 32, 128),
        ("v5p", "16x16x24", 1536, 6144),
        ("v6e", "8x16", 32, 128),
        ("v7x", "2x2x2", 2, 8),
        ("v7x", "4x4x4", 16, 64),
        ("v7x", "8x16x16", 512, 2048),
    ],
)
def test_slices_have_the_hosts_of_googles_tables(kind, topology, hosts, chips):
    tpu = Tpu(kind, topology)
    assert (tpu.hosts, tpu.chips) == (hosts, chips)
    assert tpu.hosts * tpu.chips_per_host == tpu.chips


def test_eight_chips_are_one_host_or_two():
    assert (Tpu("v6e", "2x4").hosts, Tpu("v6e", "2x4").machine) == (2, "ct6e-standard-4t")
    one = Tpu("v6e", "2x4", chips_per_host=8)
    assert (one.hosts, one.machine) == (1, "ct6e-standard-8t")


@pytest.mark.parametrize(
    ("kind", "topology"),
    [
        ("v5e", "4x4x4"),
        ("v5e", "16x32"),
        ("v5e", "3x3"),
        ("v5p", "4x4"),
        ("v5p", "1x1x1"),
        ("v5p", "2x2x8"),
        ("v5p", "4x6x8"),
        ("v5p", "8x4x4"),  # ascending order
        ("v5p", "16x16x28"),  # larger than the largest slice
        ("v5p", "4x4x8xlarge"),
        ("v5p", "0x4x4"),
        ("v5p", " 4x4x4"),
        ("v7x", "16x24x32"),
        ("v6e", ""),
    ],
)
def test_a_topology_that_does_not_exist_is_reported_with_those_that_do(kind, topology):
    known = TPUS[kind].topologies_2d[-1] if TPUS[kind].topologies_2d else "multiples of 4"
    with pytest.raises(LaunchError, match=rf"{re.escape(repr(topology))}.*{kind}.*{known}"):
        Tpu(kind, topology)


@pytest.mark.parametrize(
    ("kind", "topology", "chips_per_host", "possible"),
    [
        ("v5e", "4x4", 8, "have 4$"),
        ("v5e", "2x4", 1, "have 4 or 8$"),
        ("v5e", "2x2", 8, "have 4$"),
        ("v5p", "2x2x1", 8, "have 4$"),
        ("v5e", "1x1", 4, "have 1$"),
        ("v5e", "4x4", 3, "have 4$"),
    ],
)
def test_host_sizes_that_do_not_exist_are_refused(kind, topology, chips_per_host, possible):
    with pytest.raises(LaunchError, match=possible):
        Tpu(kind, topology, chips_per_host=chips_per_host)


def test_unknown_kinds_are_reported_with_the_known_ones():
    with pytest.raises(LaunchError, match=r"'v5'.*v5e, v5p, v6e, v7x"):
        Tpu("v5", "4x4")
    with pytest.raises(LaunchError, match=r"'H100'.*h100"):
        Gpu("H100")


@pytest.mark.parametrize("count", [0, -1, 1.5, "2"])
def test_counts_below_one_are_refused(count):
    for make in (lambda n: Gpu("h100", n), Cpu, lambda n: Tpu("v5e", "4x4", n)):
        with pytest.raises(LaunchError, match="at least 1"):
            make(count)
