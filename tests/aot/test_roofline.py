"""Bounds of the time from work and peak rates."""

import pytest

from ditfuse_jax.aot.roofline import Work, roofline
from ditfuse_jax.parallel.accelerators import Accelerator

CHIP = Accelerator(
    flops=100.0, hbm_bytes=1.0, hbm_bandwidth=10.0, ici_bandwidth=5.0, dcn_bandwidth=1.0
)


@pytest.mark.parametrize(
    ("work", "bottleneck", "seconds"),
    [
        (Work(400.0, 10.0, 5.0, 1.0), "matrix", 4.0),
        (Work(100.0, 60.0, 5.0, 1.0), "hbm", 6.0),
        (Work(100.0, 10.0, 35.0, 1.0), "ici", 7.0),
        (Work(100.0, 10.0, 5.0, 8.0), "dcn", 8.0),
    ],
)
def test_the_slowest_resource_determines_the_time(work, bottleneck, seconds):
    found = roofline(work, 100.0, CHIP)
    assert (found.bottleneck, found.min_seconds) == (bottleneck, seconds)
    assert found.mfu == pytest.approx(100.0 / (seconds * 100.0))


def test_recomputation_lowers_the_bound_of_the_utilisation():
    plain, again = (roofline(Work(flops, 0, 0, 0), 300.0, CHIP) for flops in (300.0, 400.0))
    assert plain.mfu == 1.0
    assert again.mfu == 0.75
