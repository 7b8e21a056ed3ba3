"""The screened Poisson equation, compared with its definition."""

import numpy as np
import pytest

from ditfuse_jax.degrade.poisson import screened_poisson


def gradients(image):
    return np.diff(image, axis=1, append=image[:, -1:]), np.diff(image, axis=0, append=image[-1:])


@pytest.mark.parametrize("size", [(8, 10), (9, 7), (1, 6), (16, 16)])
def test_the_gradients_and_the_level_of_an_image_give_it_back(size):
    image = np.random.default_rng(0).normal(100, 30, size)
    found = screened_poisson(*gradients(image), image, 0.1)
    np.testing.assert_allclose(found, image, atol=1e-3)


def test_gradients_alone_give_the_image_but_for_its_mean():
    image = np.random.default_rng(0).normal(100, 30, (12, 14))
    level = np.full_like(image, 5.0)
    found = screened_poisson(*gradients(image), level, 1e-6)
    np.testing.assert_allclose(found - found.mean(), image - image.mean(), atol=0.05)
    assert found.mean() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("size", [(6, 8), (10, 4)])
def test_the_result_is_the_least_squares_solution(size):
    random = np.random.default_rng(1)
    across, down, level = (random.normal(size=size) for _ in range(3))
    screening = 0.3
    found = screened_poisson(across, down, level, screening)

    def cost(f):
        a, d = gradients(f)
        error = np.sum((a - across)[:, :-1] ** 2) + np.sum((d - down)[:-1] ** 2)
        return error + screening * np.sum((f - level) ** 2)

    best = cost(found)
    for _ in range(50):
        assert cost(found + 0.01 * random.normal(size=size)) > best
