"""Devices that share the batches of a `Fuser` change no image beyond rounding."""

import pytest


@pytest.mark.slow
@pytest.mark.processes
def test_eight_devices_give_the_images_of_one(on_eight_devices):
    found = on_eight_devices("sample/fuser_on_mesh.py")
    assert found["holders"] == [8]  # each device has the whole model
    # Three rows are filled up to eight.  Tiles are computed in other groups, so sums are rounded in
    # another order.
    assert found["differ"]["3 of 64x48"] == [0, 0]
    most, mean = found["differ"]["3 of 264x200"]
    assert most <= 3 and mean < 0.05, (most, mean)
