"""The training objective."""

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import Objective, flow_matching_loss, interpolate


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


def test_the_image_s_error_counts_the_same_at_every_time(batch):
    """A clean prediction that is off by e costs e^2, however near the image is."""
    image, noise, _ = batch
    t = np.array([[0.1, 0.9]] * 3, np.float32)
    loss = flow_matching_loss(
        lambda *_: image[:, None] + 0.5 * np.ones_like(noise),
        "clean",
        image,
        noise,
        t,
        Objective(weighting="image"),
    )
    np.testing.assert_allclose(loss, np.full((3, 2), 0.25), rtol=1e-5)


def test_detail_costs_what_differences_of_neighbours_are_off_by(batch):
    image, noise, t = batch
    ramp = 0.5 * np.arange(6, dtype="f4")[:, None] + 2 * np.arange(4, dtype="f4")[:, None, None]

    def loss(objective):
        return flow_matching_loss(
            lambda *_: image[:, None] - noise + ramp, "velocity", image, noise, t, objective
        )

    extra = loss(Objective(gradient_loss_weight=3.0)) - loss(Objective())
    np.testing.assert_allclose(extra, np.full((3, 2), 3 * (0.5**2 + 2**2)), rtol=1e-4)
    shifted = flow_matching_loss(
        lambda *_: image[:, None] - noise + 1,
        "velocity",
        image,
        noise,
        t,
        Objective(gradient_loss_weight=9.0),
    )
    np.testing.assert_allclose(shifted, np.ones((3, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"weighting": "latent"}, "flow.weighting 'latent' is unknown"),
        ({"gradient_loss_weight": -1.0}, "flow.gradient_loss_weight must be at least 0"),
    ],
)
def test_an_objective_that_means_nothing_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        Objective(**values)
