"""Resampling, the common rectangle, and matrices."""

import json

import numpy as np
import pytest

from ditfuse_jax.align import Warp, common_rectangle, resample
from ditfuse_jax.align.geometry import (
    MODELS,
    corners,
    from_parameters,
    jacobian,
    pixel_scaling,
    similarity_about,
    transform,
    translation,
)
from ditfuse_jax.errors import UserError
from tests.align.scenes import labels, render


def warp_of(matrix, reference, moving):
    return Warp("homography", np.asarray(matrix, float), reference, moving)


def test_a_shift_by_whole_pixels_moves_pixels_unchanged():
    image = render(labels(0), 1)
    size = image.shape[:2]
    warped, mask = resample(image, warp_of(translation(5, -3), size, size))
    np.testing.assert_array_equal(warped[3:, :-5], image[:-3, 5:])
    assert mask[3:, :-5].all()
    assert not mask[:3].any()
    assert not mask[:, -5:].any()


def test_there_and_back_gives_the_image_again():
    image = render(labels(0), 1)
    size = image.shape[:2]
    matrix = similarity_about((170, 130), 1.02, 2, (1.3, 0.6))
    there, _ = resample(image, warp_of(matrix, size, size))
    back, _ = resample(there, warp_of(np.linalg.inv(matrix), size, size))
    inner = (slice(20, -20), slice(20, -20))
    error = np.abs(back[inner].astype(int) - image[inner])
    assert error.mean() < 2  # the noise of the image alone has a mean of 2.4


def test_a_larger_image_is_smoothed_before_it_shrinks():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    warp = warp_of(pixel_scaling((64, 64), (256, 256)), (64, 64), (256, 256))
    warped, mask = resample(stripes, warp)
    assert mask.all()
    assert np.abs(warped[8:-8, 8:-8].astype(int) - 127).max() < 12


def test_an_image_of_another_size_is_refused():
    with pytest.raises(UserError, match="for images of 30x20, not 10x10"):
        resample(np.zeros((10, 10, 3), np.uint8), warp_of(np.eye(3), (20, 30), (20, 30)))


def test_the_common_rectangle_lies_inside_all_masks():
    y, x = np.mgrid[:80, :120]
    masks = [(x + 0.2 * y > 10) & (y < 70 + 0.05 * x), x < 110]
    rows, columns = common_rectangle(masks)
    assert all(mask[rows, columns].all() for mask in masks)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    assert area > 0.85 * np.logical_and(*masks).sum()


def test_masks_without_a_common_pixel_give_an_empty_rectangle():
    left = np.zeros((10, 10), bool)
    left[:, :4] = True
    rows, columns = common_rectangle([left, ~left])
    assert np.zeros((10, 10))[rows, columns].size == 0


def test_the_dict_of_a_warp_is_json_and_gives_it_back():
    warp = Warp("affine", similarity_about((3, 4), 1.1, 2), (20, 30), (40, 50))
    again = Warp.from_dict(json.loads(str(warp)))
    np.testing.assert_array_equal(again.matrix, warp.matrix)
    assert (again.model, again.reference_size, again.moving_size) == ("affine", (20, 30), (40, 50))


@pytest.mark.parametrize("model", MODELS)
def test_the_jacobian_is_the_derivative_of_the_matrix(model):
    points = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    derivative = jacobian(model, points)
    for number in range(derivative.shape[-1]):
        parameters = np.zeros(derivative.shape[-1])
        parameters[number] = 1e-6
        change = (transform(from_parameters(model, parameters), points) - points) / 1e-6
        np.testing.assert_allclose(change, derivative[..., number], atol=1e-5)


def test_resizing_maps_the_outer_edges_of_an_image_onto_each_other():
    matrix = pixel_scaling((20, 40), (10, 30))
    np.testing.assert_allclose(transform(matrix, np.array([-0.5, -0.5])), [-0.5, -0.5])
    np.testing.assert_allclose(transform(matrix, np.array([39.5, 19.5])), [29.5, 9.5])


def test_corners_are_centres_of_pixels():
    np.testing.assert_array_equal(corners(3, 5), [[0, 0], [4, 0], [4, 2], [0, 2]])
