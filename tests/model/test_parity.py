"""Parity with numbers of the original PyTorch code (`golden/official_tiny`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from ditfuse_jax.convert.reference import channels_last
from ditfuse_jax.flow import flow_matching_loss
from ditfuse_jax.model.attention import IMPLEMENTATIONS
from ditfuse_jax.model.patches import position_table
from ditfuse_jax.weights.omnigen import parameters_from_original

pytestmark = [pytest.mark.usefixtures("exact_products"), pytest.mark.medium]

# Both compute in float32 with different orders of summation.
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-3


def relative_error(actual, expected) -> float:
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def inputs(official):
    """Condition, noise, image and time of the original's training batch."""
    golden = official.golden
    noise, image = (channels_last(golden[name]) for name in ("x0", "x1"))
    return official.condition, noise[:, None], image, jnp.asarray(golden["t"])[:, None]


@pytest.fixture(scope="module", params=sorted(IMPLEMENTATIONS))
def training(request, official, models, inputs):
    """Velocity, per-sample losses and gradients of their mean."""
    condition, noise, image, t = inputs
    graph, _ = nnx.split(official.model(attention=request.param))

    def objective(parameters):
        model, outputs = nnx.merge(graph, parameters), {}

        def predict(noisy, t):
            outputs["velocity"] = model(condition, noisy, t)
            return outputs["velocity"]

        losses = flow_matching_loss(predict, "velocity", image, noise, t)
        return jnp.mean(losses), (outputs["velocity"], losses)

    run = models.jit(jax.value_and_grad(objective, has_aux=True))
    (_, (velocity, losses)), gradients = run(official.parameters)
    return {"velocity": velocity, "losses": losses, "gradients": gradients}


def test_the_velocity_equals_the_original_s(official, training):
    expected = channels_last(official.golden["velocity"])
    assert relative_error(training["velocity"][:, 0], expected) < TOLERANCE


def test_the_loss_of_every_sample_equals_the_original_s(official, training):
    assert relative_error(training["losses"][:, 0], official.golden["loss"]) < TOLERANCE


def test_the_gradients_equal_the_original_s(official, training):
    golden = official.golden
    weights = load_file(official.folder / "model.safetensors")
    names = [name.removeprefix("grad/") for name in golden if name.startswith("grad/")]
    errors = {}
    for name in names:
        # Gradients and masks are transposed and stacked like their parameters.
        gradient, mask = (
            parameters_from_original(
                {n: value if n == name else np.zeros_like(x) for n, x in weights.items()},
                official.config(),
            )
            for value in (golden[f"grad/{name}"], np.ones_like(weights[name]))
        )
        difference = jax.tree.map(
            lambda ours, theirs, mask: np.abs(ours * mask - theirs).max(),
            training["gradients"],
            gradient,
            mask,
        )
        errors[name] = max(jax.tree.leaves(difference)) / np.abs(golden[f"grad/{name}"]).max()
    assert len(errors) == 7
    assert max(errors.values()) < GRADIENT_TOLERANCE, errors


@pytest.mark.parametrize("implementation", sorted(IMPLEMENTATIONS))
def test_encode_and_denoise_give_the_original_s_velocity(official, models, inputs, implementation):
    golden = official.golden
    condition, _, _, t = inputs
    graph, state = nnx.split(official.model(attention=implementation))

    @models.jit
    def run(state, noisy):
        model = nnx.merge(graph, state)
        return model.denoise(model.encode(condition), condition, noisy, t[:, 0])

    velocity = run(state, channels_last(golden["xt"]))
    assert relative_error(velocity, channels_last(golden["velocity"])) < TOLERANCE


@pytest.mark.parametrize("grid", [(4, 6), (8, 12), (64, 64)])
def test_the_position_table_equals_the_centre_of_the_original_s(official, grid):
    table = load_file(official.folder / "model.safetensors")["pos_embed"]
    side = official.meta["pos_embed_max_size"]
    top, left = ((side - size) // 2 for size in grid)
    crop = table.reshape(side, side, -1)[top : top + grid[0], left : left + grid[1]]
    ours = position_table(official.config(), grid)
    np.testing.assert_allclose(ours, crop.reshape(grid[0] * grid[1], -1), atol=1e-5)
