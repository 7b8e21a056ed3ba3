"""The straight path between noise and image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import interpolate, to_velocity, velocity


@pytest.fixture
def ends():
    """An image and noise, (B, K, H, W, C)."""
    random = np.random.default_rng(0)
    return random.standard_normal((2, 3, 2, 4, 4, 2)).astype("f4")


def times(value) -> np.ndarray:
    return np.full((3, 2), value, np.float32)


def test_the_path_leads_from_noise_to_the_image(ends):
    image, noise = ends
    np.testing.assert_array_equal(interpolate(image, noise, times(0.0)), noise)
    np.testing.assert_array_equal(interpolate(image, noise, times(1.0)), image)


def test_every_draw_has_its_own_time(ends):
    image, noise = ends
    t = np.linspace(0, 1, 6, dtype="f4").reshape(3, 2)
    points = interpolate(image, noise, t)
    for index in np.ndindex(t.shape):
        expected = t[index] * image[index] + (1 - t[index]) * noise[index]
        np.testing.assert_allclose(points[index], expected, atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_the_velocity_is_the_derivative_of_the_path(ends, t):
    image, noise = ends
    _, derivative = jax.jvp(
        lambda t: interpolate(image, noise, t), (jnp.asarray(times(t)),), (jnp.ones((3, 2)),)
    )
    np.testing.assert_allclose(derivative, velocity(image, noise), atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.94])
def test_an_euler_step_to_the_end_gives_the_clean_prediction(ends, t):
    predicted, noisy = ends
    step = to_velocity("clean", predicted, noisy, times(t))
    np.testing.assert_allclose(noisy + (1 - t) * step, predicted, atol=1e-5)


def test_the_exact_image_gives_the_exact_velocity(ends):
    image, noise = ends
    t = times(0.7)
    noisy = interpolate(image, noise, t)
    np.testing.assert_allclose(
        to_velocity("clean", image, noisy, t), velocity(image, noise), atol=1e-5
    )


def test_the_velocity_of_a_clean_prediction_is_bounded_at_the_end(ends):
    predicted, noisy = ends
    step = to_velocity("clean", predicted, noisy, times(1.0))
    assert np.abs(step).max() <= 21 * np.abs(predicted - noisy).max()


def test_a_velocity_prediction_is_returned_unchanged(ends):
    output, noisy = ends
    assert to_velocity("velocity", output, noisy, times(0.5)) is output


def test_an_unknown_prediction_is_refused(ends):
    with pytest.raises(UserError, match=r"'noise'.*velocity or clean"):
        to_velocity("noise", *ends, times(0.5))
