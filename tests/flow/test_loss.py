"""The training objective."""

import numpy as np
import pytest

from ditfuse_jax.flow import flow_matching_loss, interpolate


@pytest.fixture
def batch():
    """Images (B, ...), noise (B, K, ...) and times (B, K)."""
    random = np.random.default_rng(0)
    image = random.standard_normal((3, 4, 6, 2)).astype("f4")
    noise = random.standard_normal((3, 2, 4, 6, 2)).astype("f4")
    return image, noise, random.uniform(0.1, 0.9, (3, 2)).astype("f4")


def test_the_true_velocity_costs_nothing(batch):
    image, noise, t = batch
    loss = flow_matching_loss(lambda *_: image[:, None] - noise, "velocity", image, noise, t)
    np.testing.assert_array_equal(loss, np.zeros((3, 2)))


def test_the_true_image_costs_nothing_where_clean_images_are_predicted(batch):
    image, noise, t = batch
    clean = np.broadcast_to(image[:, None], noise.shape)
    loss = flow_matching_loss(lambda *_: clean, "clean", image, noise, t)
    np.testing.assert_allclose(loss, np.zeros((3, 2)), atol=1e-9)


def test_the_network_sees_the_path_s_points_and_their_times(batch):
    image, noise, t = batch
    seen = {}

    def predict(noisy, t):
        seen.update(noisy=noisy, t=t)
        return noisy

    flow_matching_loss(predict, "velocity", image, noise, t)
    np.testing.assert_array_equal(seen["t"], t)
    np.testing.assert_array_equal(seen["noisy"], interpolate(image[:, None], noise, t))


def test_each_draw_costs_its_own_mean_squared_velocity_error(batch):
    image, noise, t = batch
    error = np.arange(6, dtype="f4").reshape(3, 2, 1, 1, 1)

    def predict(*_):
        return image[:, None] - noise + error

    loss = flow_matching_loss(predict, "velocity", image, noise, t)
    np.testing.assert_allclose(loss, error[..., 0, 0, 0] ** 2, rtol=1e-5)


def test_a_clean_error_weighs_more_the_nearer_the_image_is(batch):
    """An error e of the clean prediction is one of e / (1 - t) in velocity."""
    image, noise, _ = batch
    t = np.array([[0.1, 0.9]] * 3, np.float32)

    def predict(*_):
        return np.broadcast_to(image[:, None] + 0.5, noise.shape)

    loss = flow_matching_loss(predict, "clean", image, noise, t)
    np.testing.assert_allclose(loss, (0.5 / (1 - t)) ** 2, rtol=1e-4)
