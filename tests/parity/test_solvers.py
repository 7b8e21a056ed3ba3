"""Parity of solvers, times and guidance with diffusers' schedulers and guiders.

diffusers' sigma is 1 - t here, and its flow's prediction, noise - image, is minus our velocity.
"""

# pyright: reportMissingImports=false
# PyTorch and diffusers are not among the requirements.

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.flow import SOLVERS, Guidance, GuidanceRule, TimeGrid

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("reference")]

TOLERANCE = 1e-4  # of the largest value; diffusers computes its sigmas in float32

START = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype("f4")


def velocity(x, t):
    """Of no model in particular; NumPy, JAX or PyTorch."""
    return 0.8 - x * (0.3 + t) + 0.2 * x**2 * t - 1.5 * t**2


def _flow_match(name, shift):
    import diffusers

    return getattr(diffusers, name)(shift=shift)


def _multistep(name, shift):
    import diffusers

    return getattr(diffusers, name)(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )


SCHEDULERS = {
    "euler": (_flow_match, "FlowMatchEulerDiscreteScheduler"),
    "heun": (_flow_match, "FlowMatchHeunDiscreteScheduler"),
    "dpmpp_2m": (_multistep, "DPMSolverMultistepScheduler"),
    "unipc": (_multistep, "UniPCMultistepScheduler"),
}


def by_scheduler(scheduler, steps):
    """Samples with diffusers; returns the result and the times t of its steps."""
    import torch

    scheduler.set_timesteps(steps)
    x = torch.tensor(START)
    for timestep in scheduler.timesteps:
        if scheduler.step_index is None:
            scheduler._init_step_index(timestep)
        sigma = scheduler.sigmas[scheduler.step_index]
        x = scheduler.step(-velocity(x, 1 - sigma), timestep, x).prev_sample
    return x.numpy(), np.unique(1 - scheduler.sigmas.numpy().astype("f8")).astype("f4")


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("steps", "shift"), [(2, 1.0), (5, 1.0), (20, 3.0)])
def test_a_solver_gives_the_result_of_diffusers(name, steps, shift):
    make, class_name = SCHEDULERS[name]
    expected, times = by_scheduler(make(class_name, shift), steps)
    assert len(times) == steps + 1 and times[-1] == 1
    for given in (times, jnp.asarray(times)):
        found = SOLVERS[name](velocity, jnp.asarray(START), given)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_the_shift_of_flux_gives_the_times_of_diffusers(tokens):
    import diffusers
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    sigmas = np.linspace(1.0, 1 / 7, 7)  # as the pipeline gives them
    scheduler.set_timesteps(sigmas=sigmas, mu=calculate_shift(tokens))
    np.testing.assert_allclose(
        TimeGrid(7, rule="flux")(tokens), 1 - scheduler.sigmas.numpy(), atol=1e-6
    )


@pytest.mark.parametrize("rescale", [0.0, 0.4, 1.0])
def test_rescaled_guidance_gives_the_velocity_of_diffusers(rescale):
    import torch
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    cond, neg = np.random.default_rng(1).standard_normal((2, *START.shape)).astype("f4")
    plain = neg + 3 * (cond - neg)
    expected = rescale_noise_cfg(torch.tensor(plain), torch.tensor(cond), rescale).numpy()
    weights = np.array([3.0, -2.0], "f4")
    rule = GuidanceRule(rescale=rescale)
    found, _ = rule(np.stack([cond, neg]), weights, START, np.float32(0.3))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("norm", [0.0, 2.0])
@pytest.mark.parametrize("momentum", [0.0, -0.5])
def test_projected_guidance_gives_the_clean_images_of_diffusers(eta, norm, momentum):
    import torch
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    scale, values = 3.0, START[0].size
    guidance = Guidance(scale, scale, GuidanceRule((0, 1), 0.0, eta, norm / values**0.5, momentum))
    weights = np.array([guidance.weights[name] for name in ("cond", "neg")], "f4")
    buffer, average = MomentumBuffer(momentum) if momentum else None, None
    for seed, t in enumerate(np.array([0.0, 0.3, 0.8], "f4")):
        cond, neg = np.random.default_rng(seed).standard_normal((2, *START.shape)).astype("f4")
        clean = [torch.tensor(START + (1 - t) * v) for v in (cond, neg)]
        settings = (scale - 1, buffer, eta, norm, True)
        expected = normalized_guidance(*clean, *settings).numpy()
        found, average = guidance.rule(np.stack([cond, neg]), weights, START, t, average)
        np.testing.assert_allclose(START + (1 - t) * found, expected, atol=2e-5)
