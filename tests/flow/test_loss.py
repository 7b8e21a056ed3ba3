"""The training loss."""

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import LossConfig, flow_matching_loss, interpolate


@pytest.fixture
def batch():
    """Images (B, ...), noise (B, K, ...) and times (B, K)."""
    random = np.random.default_rng(0)
    image = random.standard_normal((3, 4, 6, 2)).astype("f4")
    noise = random.standard_normal((3, 2, 4, 6, 2)).astype("f4")
    return image, noise, random.uniform(0.1, 0.9, (3, 2)).astype("f4")


def test_the_true_velocity_has_no_loss(batch):
    image, noise, t = batch
    loss = flow_matching_loss(lambda *_: image[:, None] - noise, "velocity", image, noise, t)
    np.testing.assert_array_equal(loss, np.zeros((3, 2)))


def test_the_true_image_has_no_loss_where_clean_images_are_predicted(batch):
    image, noise, t = batch
    clean = np.broadcast_to(image[:, None], noise.shape)
    loss = flow_matching_loss(lambda *_: clean, "clean", image, noise, t)
    np.testing.assert_allclose(loss, np.zeros((3, 2)), atol=1e-9)


def test_the_model_gets_points_of_the_path_and_their_times(batch):
    image, noise, t = batch
    seen = {}

    def predict(noisy, t):
        seen.update(noisy=noisy, t=t)
        return noisy

    flow_matching_loss(predict, "velocity", image, noise, t)
    np.testing.assert_array_equal(seen["t"], t)
    np.testing.assert_array_equal(seen["noisy"], interpolate(image[:, None], noise, t))


def test_the_loss_of_a_draw_is_its_mean_squared_velocity_error(batch):
    image, noise, t = batch
    error = np.arange(6, dtype="f4").reshape(3, 2, 1, 1, 1)

    def predict(*_):
        return image[:, None] - noise + error

    loss = flow_matching_loss(predict, "velocity", image, noise, t)
    np.testing.assert_allclose(loss, error[..., 0, 0, 0] ** 2, rtol=1e-5)


def test_an_error_of_the_clean_image_weighs_more_near_the_image(batch):
    """An error e of the clean prediction is an error e / (1 - t) of the velocity."""
    image, noise, _ = batch
    t = np.array([[0.1, 0.9]] * 3, np.float32)

    def predict(*_):
        return np.broadcast_to(image[:, None] + 0.5, noise.shape)

    loss = flow_matching_loss(predict, "clean", image, noise, t)
    np.testing.assert_allclose(loss, (0.5 / (1 - t)) ** 2, rtol=1e-4)


def test_the_image_weighting_counts_an_error_of_the_image_alike_at_every_time(batch):
    """A clean prediction with the error e has the loss e^2 at every time."""
    image, noise, _ = batch
    t = np.array([[0.1, 0.9]] * 3, np.float32)
    loss = flow_matching_loss(
        lambda *_: image[:, None] + 0.5 * np.ones_like(noise),
        "clean",
        image,
        noise,
        t,
        LossConfig(weighting="image"),
    )
    np.testing.assert_allclose(loss, np.full((3, 2), 0.25), rtol=1e-5)


def test_the_gradient_loss_is_the_error_of_the_differences_of_neighbours(batch):
    image, noise, t = batch
    ramp = 0.5 * np.arange(6, dtype="f4")[:, None] + 2 * np.arange(4, dtype="f4")[:, None, None]

    def loss(config):
        return flow_matching_loss(
            lambda *_: image[:, None] - noise + ramp, "velocity", image, noise, t, config
        )

    extra = loss(LossConfig(gradient_loss_weight=3.0)) - loss(LossConfig())
    np.testing.assert_allclose(extra, np.full((3, 2), 3 * (0.5**2 + 2**2)), rtol=1e-4)
    shifted = flow_matching_loss(
        lambda *_: image[:, None] - noise + 1,
        "velocity",
        image,
        noise,
        t,
        LossConfig(gradient_loss_weight=9.0),
    )
    np.testing.assert_allclose(shifted, np.ones((3, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"weighting": "latent"},
            r"flow\.weighting: .* 'latent' is unknown; choose from velocity, image",
        ),
        ({"gradient_loss_weight": -1.0}, "flow.gradient_loss_weight must be at least 0"),
    ],
)
def test_a_bad_setting_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        LossConfig(**values)
