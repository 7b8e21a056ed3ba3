"""Parity of solvers, times and guidance with diffusers' schedulers and guiders.

diffusers' sigma is 1 - t here, and its flow's prediction, noise - image, is minus our velocity.
"""

# pyright: reportMissingImports=false
# PyTorch and diffusers are not among the requirements.

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.flow import SOLVERS

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
