"""Distillation: what a student is trained to predict so that it needs few steps and no guidance.

A teacher samples with many steps of up to three guidance branches; its student takes a few Euler
steps of one branch.  A loss is a function of `DISTILLATIONS`: it returns points where the student
is trained, and the velocity that it should predict there.  The student's error at these points is
weighted and averaged like that of flow matching (`flow.loss`), on the same training step.

The student's velocity is the mean one over a step, so a network needs no other input for it: with
S steps there are S times at which it is asked, and each belongs to one step.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow.path import interpolate
from ditfuse_jax.flow.sampling_config import SamplingConfig
from ditfuse_jax.flow.solvers import Velocity, find_solver
from ditfuse_jax.registry import Registry


class Flows(NamedTuple):
    """The two flows, without gradients; both take x (B, H, W, C) and times, one or (B,).

    Attributes:
      teacher: the guided velocity of the teacher.
      teacher_in_training: the same, with the divisor of clean predictions bounded as in training.
      student: the velocity of the student as it is.
    """

    teacher: Velocity
    teacher_in_training: Velocity
    student: Velocity


class Draws(NamedTuple):
    """What a training step has drawn for a batch.

    Attributes:
      image: clean targets (B, H, W, C).
      noise: (B, K, H, W, C) standard normal.
      t: (B, K) from the recipe's time sampler.
    """

    image: jax.Array
    noise: jax.Array
    t: jax.Array


class Points(NamedTuple):
    """Where a student is trained, and with which target.

    Attributes:
      x: (B, K, H, W, C).
      t: (B, K).
      velocity: (B, K, H, W, C), the target.
    """

    x: jax.Array
    t: jax.Array
    velocity: jax.Array


class Plan(NamedTuple):
    """How the teacher's steps are shared among those of the student.

    Attributes:
      times: (S * n + 1,) of the teacher's steps; every n-th is one of the student's.
      steps: S, of the student.
      solver: a name of `SOLVERS`, by which the teacher integrates within a step of the student.
    """

    times: jax.Array
    steps: int
    solver: str

    @property
    def spans(self) -> jax.Array:
        """The teacher's times (S, n + 1) in each step of the student."""
        each = (self.times.shape[0] - 1) // self.steps
        return jnp.stack([self.times[k * each : (k + 1) * each + 1] for k in range(self.steps)])


DistillationLoss = Callable[[Flows, Draws, Plan], Points]


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A registered loss.

    Attributes:
      points: the function.
      draw_per_step: whether it returns one point for each step of the student; otherwise one for
        each noise draw.
      on_policy: whether the student itself is evaluated, once for every point.
    """

    points: DistillationLoss
    draw_per_step: bool
    on_policy: bool = False


DISTILLATIONS: Registry[Distillation] = Registry("distillation loss")


def student_trajectory(flows: Flows, draws: Draws, plan: Plan) -> Points:
    """The mean of the teacher's velocity over each step, from where the student's own steps lead.

    So the student learns to go on from its own errors, as in imitation learning with the expert's
    labels (DAgger; Ross et al. 2011, arXiv 1011.0686).
    """
    solve = find_solver(plan.solver)

    def step(x: jax.Array, span: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        first, length = span[0], span[-1] - span[0]
        target = (solve(flows.teacher, x, span) - x) / length
        return x + length * flows.student(x, first), (x, target)

    # A loop, so that the model is compiled once for all steps.
    _, (starts, targets) = jax.lax.scan(step, draws.noise[:, 0], plan.spans)
    t = jnp.broadcast_to(plan.spans[:, 0], (draws.noise.shape[0], plan.steps))
    return Points(jnp.moveaxis(starts, 0, 1), t, jnp.moveaxis(targets, 0, 1))


def guidance(flows: Flows, draws: Draws, plan: Plan) -> Points:
    """The guided velocity on the path of flow matching: one branch, as many steps as before.

    Meng et al. 2023, "On Distillation of Guided Diffusion Models" (arXiv 2210.03142), stage one,
    with the guidance scales of the teacher.
    """
    del plan
    x = interpolate(draws.image[:, None], draws.noise, draws.t)
    count = draws.t.shape[1]
    targets = [flows.teacher_in_training(x[:, k], draws.t[:, k]) for k in range(count)]
    return Points(x, draws.t, jnp.stack(targets, 1))


DISTILLATIONS.register(
    "student_trajectory", Distillation(student_trajectory, draw_per_step=True, on_policy=True)
)
DISTILLATIONS.register("guidance", Distillation(guidance, draw_per_step=False))


# Solvers whose steps do not depend on those before or on being the last: within each step of the
# student they do what the teacher does when it samples.
STEPWISE_SOLVERS = ("euler", "midpoint")

# Settings of `SamplingConfig` that a student was trained for; the others stay the teacher's.
STUDENT_SETTINGS = (
    *("steps", "solver", "shift", "shift_rule", "guidance_scale", "image_guidance_scale"),
    *("guidance_interval", "guidance_rescale", "apg_eta", "apg_threshold", "apg_momentum"),
    "negative_prompt",
)


def student_sampling(teacher: SamplingConfig, steps: int | None) -> SamplingConfig:
    """Returns the teacher's settings without guidance.

    With `steps` it takes so many of Euler's method; None keeps the teacher's steps and solver.
    """
    usual = SamplingConfig()
    kept = ("steps", "solver", "shift", "shift_rule")
    changes = {name: getattr(usual, name) for name in STUDENT_SETTINGS if name not in kept}
    changes |= {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
    if steps is not None:
        changes |= {"steps": steps, "solver": "euler"}
    return teacher.override(changes)


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """`config.distill` of a recipe that names a teacher.

    Attributes:
      loss: a name of `DISTILLATIONS`.
      teacher: how the teacher samples; its steps are a multiple of the student's.
      student: how the student samples: without guidance, and by Euler's steps if the loss has a
        point for each of them.

    Raises:
      UserError: an unknown name, or settings that do not go together.
    """

    loss: str
    teacher: SamplingConfig
    student: SamplingConfig

    def __post_init__(self) -> None:
        try:
            DISTILLATIONS.find(self.loss)
            find_solver(self.teacher.solver)
        except UserError as error:
            raise UserError(f"distill: {error}") from error
        if len(self.student.guidance.branches) != 1:
            raise UserError(
                "a distilled student samples without guidance: set sample.guidance_scale and "
                "sample.image_guidance_scale to 1"
            )
        if self.loss_of.draw_per_step:
            self._check_steps()
        for name in ("shift", "shift_rule"):
            own, theirs = getattr(self.student, name), getattr(self.teacher, name)
            if own != theirs:
                raise UserError(
                    f"distill.sample.{name} is {theirs!r} and sample.{name} {own!r}: the steps of "
                    "teacher and student must end at the same times"
                )
        if self.teacher.apg_momentum:
            raise UserError("distill.sample.apg_momentum must be 0: a student has no memory")

    def _check_steps(self) -> None:
        """Checks that the student's steps can be compared with parts of the teacher's way."""
        steps = self.student.steps
        if self.student.solver != "euler":
            raise UserError(
                "a distilled student takes Euler's steps: set sample.solver to euler, not "
                f"{self.student.solver!r}"
            )
        if self.teacher.solver not in STEPWISE_SOLVERS:
            raise UserError(
                f"distill.sample.solver must be {' or '.join(STEPWISE_SOLVERS)}, not "
                f"{self.teacher.solver!r}, whose steps depend on others: set "
                "--config.distill.sample.solver=midpoint"
            )
        if self.teacher.steps % steps:
            raise UserError(
                f"distill.sample.steps must be a multiple of the student's {steps} (sample.steps), "
                f"not {self.teacher.steps}"
            )

    @property
    def loss_of(self) -> Distillation:
        """The registered loss."""
        return DISTILLATIONS.find(self.loss)
