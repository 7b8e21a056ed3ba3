"""Stacks: images of different sizes are refused or resized."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_stack, write_image


@pytest.fixture
def stack(tmp_path):
    def write(*sizes):
        rng = np.random.default_rng(0)
        paths = [tmp_path / f"{i}.png" for i in range(len(sizes))]
        for path, (height, width) in zip(paths, sizes, strict=True):
            small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            write_image(path, cv2.resize(small, (width, height)))
        return paths

    return write


def test_images_of_one_size_are_read_as_they_are(stack):
    paths = stack((40, 50), (40, 50))
    for one, other in zip(read_stack(paths), read_stack(paths, resize=True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_size_is_refused_with_both_sizes(stack):
    with pytest.raises(
        UserError, match=r"0\.png is 50x40 but .*1\.png is 100x80 .* --resize scales"
    ):
        read_stack(stack((40, 50), (80, 100)))


@pytest.mark.parametrize("size", [(80, 100), (20, 25), (41, 51)])
def test_resizing_gives_the_first_image_s_size_and_leaves_it_alone(stack, size):
    paths = stack((40, 50), size)
    first, second = read_stack(paths, resize=True)
    np.testing.assert_array_equal(first, read_stack(paths[:1])[0])
    assert second.shape == first.shape
    (whole,) = read_stack(paths[1:])
    back = cv2.resize(second, whole.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    assert np.abs(back.astype(int) - whole).mean() < 3


def test_other_shapes_are_refused_even_so(stack):
    with pytest.raises(UserError, match="their aspect ratios differ"):
        read_stack(stack((40, 50), (50, 40)), resize=True)
