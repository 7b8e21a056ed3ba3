"""Where a student is trained, and with which velocity, for flows whose solution is known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig, interpolate, time_grid
from ditfuse_jax.flow.distillation import (
    DISTILLATIONS,
    DistillationConfig,
    Draws,
    Flows,
    Plan,
    guidance,
    student_trajectory,
)

RATE = 0.7


def teacher(x, t):
    """dx/dt = RATE * x, so x(t) = x(0) * exp(RATE * t)."""
    return RATE * x


def student(x, t):
    return 1.0 - x


FLOWS = Flows(teacher, lambda x, t: 2 * teacher(x, t), student)


@pytest.fixture
def draws():
    random = np.random.default_rng(0)
    image = jnp.asarray(random.standard_normal((3, 2, 2, 1)).astype("f4"))
    noise = jnp.asarray(random.standard_normal((3, 4, 2, 2, 1)).astype("f4"))
    return Draws(image, noise, jnp.asarray(random.uniform(size=(3, 4)).astype("f4")))


def plan(steps: int, of_teacher: int, solver: str = "midpoint") -> Plan:
    return Plan(jnp.asarray(time_grid(of_teacher)), steps, solver)


def taught(steps: int) -> Flows:
    """The student meets its targets: the teacher's mean velocity over one of so many steps."""
    return FLOWS._replace(student=lambda x, t: x * (np.exp(RATE / steps) - 1) * steps)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_student_that_meets_its_targets_goes_where_the_teacher_goes(draws, steps):
    flows = taught(steps)
    points = student_trajectory(flows, draws, plan(steps, 64))
    assert points.x.shape == (3, steps, 2, 2, 1)
    np.testing.assert_allclose(points.t, [np.arange(steps) / steps] * 3, atol=1e-6)
    for k in range(steps):
        expected = draws.noise[:, 0] * np.exp(RATE * k / steps)
        np.testing.assert_allclose(points.x[:, k], expected, rtol=1e-4)
        np.testing.assert_allclose(
            points.velocity[:, k], flows.student(points.x[:, k], k / steps), rtol=1e-3
        )


def test_a_student_is_shown_the_way_from_where_it_is(draws):
    points = student_trajectory(FLOWS, draws, plan(2, 64))
    own = draws.noise[:, 0] + 0.5 * student(draws.noise[:, 0], 0.0)
    np.testing.assert_allclose(points.x[:, 1], own, rtol=1e-6)
    end = own + 0.5 * points.velocity[:, 1]
    np.testing.assert_allclose(end, own * np.exp(RATE / 2), rtol=1e-4)


def test_with_as_many_steps_of_euler_the_target_is_the_teachers_velocity(draws):
    points = student_trajectory(FLOWS, draws, plan(4, 4, "euler"))
    np.testing.assert_allclose(points.velocity, teacher(points.x, points.t), rtol=1e-4, atol=1e-5)


def test_guidance_alone_is_learned_on_the_path_to_the_data(draws):
    points = guidance(FLOWS, draws, plan(4, 4))
    expected = interpolate(draws.image[:, None], draws.noise, draws.t)
    np.testing.assert_array_equal(points.x, expected)
    np.testing.assert_array_equal(points.t, draws.t)
    np.testing.assert_array_equal(points.velocity, 2 * teacher(points.x, points.t))


def test_the_steps_of_teacher_and_student_end_at_the_same_shifted_times(draws):
    shifted = Plan(jnp.asarray(time_grid(8, shift=3.0)), 4, "euler")
    points = student_trajectory(FLOWS, draws, shifted)
    np.testing.assert_allclose(points.t[0], time_grid(4, shift=3.0)[:-1], rtol=1e-6)


STUDENT = SamplingConfig(steps=4, guidance_scale=1.0, image_guidance_scale=1.0)
TEACHER = SamplingConfig(steps=16, solver="midpoint")


@pytest.mark.parametrize("loss", list(DISTILLATIONS))
def test_every_loss_accepts_the_usual_settings(loss):
    assert DistillationConfig(loss, TEACHER, STUDENT).loss_of is DISTILLATIONS[loss]


@pytest.mark.parametrize(
    ("teacher_changes", "student_changes", "message"),
    [
        ({"steps": 10}, {}, "distill.sample.steps must be a multiple of the student's 4"),
        ({}, {"guidance_scale": 2.0}, "without guidance"),
        ({}, {"solver": "midpoint"}, "Euler's steps"),
        ({"shift": 3.0}, {}, "must end at the same times"),
        ({"apg_momentum": -0.5}, {}, "no memory"),
        ({"solver": "heun"}, {}, "solver must be euler or midpoint, not 'heun'"),
        ({"solver": "unipc"}, {}, "set --config.distill.sample.solver=midpoint"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(teacher_changes, student_changes, message):
    of_teacher = dataclasses.replace(TEACHER, **teacher_changes)
    of_student = dataclasses.replace(STUDENT, **student_changes)
    with pytest.raises(UserError, match=message):
        DistillationConfig("student_trajectory", of_teacher, of_student)


def test_an_unknown_loss_is_refused_by_name():
    with pytest.raises(UserError, match="'magic' is unknown"):
        DistillationConfig("magic", TEACHER, STUDENT)
