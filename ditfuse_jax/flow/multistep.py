"""Solvers that reuse earlier evaluations: second order with one evaluation per step.

Adams-Bashforth extrapolates the velocity over t.  DPM-Solver++ and UniPC extrapolate the clean
image, x + (1 - t) velocity, over half the logarithm of the signal-to-noise ratio: with the flow's
x_t = t image + (1 - t) noise that is

    lambda(t) = log(t / (1 - t)),

from minus infinity at noise to plus infinity at the image.  One step from t to s with a constant
clean image is Euler's step in every one of them.

See `flow.solvers` for the contract.
"""

from typing import NamedTuple

import jax
import numpy as np

from ditfuse_jax.flow.solvers import SOLVERS, Times, Velocity, loop, module_of

_INFINITE = 1e30  # stands for infinity in lambda: differences and quotients of it are defined
_NEVER = -1.0  # the time of an evaluation that did not happen


@SOLVERS.register("ab2")
def adams_bashforth_2(velocity: Velocity, x: jax.Array, times: Times) -> jax.Array:
    """Adams-Bashforth: second order, one evaluation per step, for steps of any lengths.

    The velocity is a line through the last two (Hairer, Norsett and Wanner, Solving Ordinary
    Differential Equations I, section III.5, eq. 5.8 for k = 2).  The first step is Euler's.
    """

    def step(carry: tuple, t: jax.Array, t_next: jax.Array) -> tuple:
        x, before, t_before = carry
        now = velocity(x, t)
        span = t_next - t
        ratio = module_of(t).where(t_before < 0, 0.0, span / (t - t_before))
        return x + span * (now + 0.5 * ratio * (now - before)), now, t

    return loop(step, (x, module_of(x).zeros_like(x), _never(times)), times)[0]


@SOLVERS.register("dpmpp_2m")
def dpm_solver_pp_2m(velocity: Velocity, x: jax.Array, times: Times) -> jax.Array:
    """DPM-Solver++(2M): second order, one evaluation per step (Lu et al. 2022, algorithm 2).

    The first step and the last one are of first order: before the first there is no earlier
    evaluation, and the last ends at infinite lambda.
    """
    end = times[-1]

    def step(carry: tuple, t: jax.Array, t_next: jax.Array) -> tuple:
        x, before, t_before = carry
        clean = x + (1 - t) * velocity(x, t)
        slope = _slope(clean, before, t_before, t, t_next, end)
        return _step(x, clean + 0.5 * slope, t, t_next), clean, t

    return loop(step, (x, module_of(x).zeros_like(x), _never(times)), times)[0]


class _UniPC(NamedTuple):
    """What a step of UniPC needs of the steps before.

    Attributes:
      predicted: x at the step's time, from the predictor.
      start: corrected x at the time before.
      clean: the clean image at the time before, and at the one before that.
      times: these two times.
    """

    predicted: jax.Array
    start: jax.Array
    clean: tuple[jax.Array, jax.Array]
    times: tuple[jax.Array, jax.Array]


@SOLVERS.register("unipc")
def unipc(velocity: Velocity, x: jax.Array, times: Times) -> jax.Array:
    """UniPC-2 with B(h) = e^h - 1 ("bh2"): one evaluation per step.

    A step's evaluation first corrects the step before it (UniC-2) and then predicts (UniP-2, which
    is DPM-Solver++(2M)): Zhao et al. 2023, algorithms 7 and 8 (data prediction).  As there, the
    clean image stays the one of the predicted x.  First and last step as in `dpm_solver_pp_2m`.
    """
    end = times[-1]

    def step(carry: _UniPC, t: jax.Array, t_next: jax.Array) -> _UniPC:
        clean = carry.predicted + (1 - t) * velocity(carry.predicted, t)
        where = module_of(clean).where
        corrected = where(carry.times[0] < 0, carry.predicted, _correct(carry, clean, t))
        slope = _slope(clean, carry.clean[0], carry.times[0], t, t_next, end)
        predicted = _step(corrected, clean + 0.5 * slope, t, t_next)
        return _UniPC(predicted, corrected, (clean, carry.clean[0]), (t, carry.times[0]))

    never, none = _never(times), module_of(x).zeros_like(x)
    return loop(step, _UniPC(x, x, (none, none), (never, never)), times).predicted


def _correct(carry: _UniPC, clean: jax.Array, t: jax.Array) -> jax.Array:
    """UniC: x at t once more, with the clean image there; of first order after the first step."""
    (first, second), (t_first, t_second) = carry.clean, carry.times
    alone, where = t_second < 0, module_of(t).where
    span = where(t_first < 0, 1.0, _lambda(t) - _lambda(t_first))
    # How far back the evaluation before lies, in steps; at noise it is infinitely far.
    back = where(alone, -1.0, (_lambda(t_second) - _lambda(t_first)) / span)
    phi_1, phi_2, phi_3 = _phi(-span)
    b_1, b_2 = phi_2 / phi_1, 2 * phi_3 / phi_1
    weight_before = (b_1 - b_2) / (1 - back)
    difference = where(alone, 0.0, weight_before / back) * (second - first)
    difference += where(alone, 0.5, b_1 - weight_before) * (clean - first)
    return _step(carry.start, first + difference, t_first, t)


def _slope(
    clean: jax.Array,
    before: jax.Array,
    t_before: jax.Array,
    t: jax.Array,
    t_next: jax.Array,
    end: jax.Array,
) -> jax.Array:
    """How much the clean image changes in a step by the line over lambda through the last two.

    Zero in the first and the last step.
    """
    now = _lambda(t)
    passed = now - _lambda(t_before)
    known = (t_before >= 0) & (t_next < end)
    where = module_of(t).where
    ratio = (_lambda(t_next) - now) / where(known, passed, 1.0)
    return where(known, ratio, 0.0) * (clean - before)


def _step(x: jax.Array, clean: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
    """From t to t_next with a constant clean image."""
    return ((1 - t_next) * x + (t_next - t) * clean) / (1 - t)


def _lambda(t: jax.Array) -> jax.Array:
    """log(t / (1 - t)), with large numbers for its infinite ends."""
    xp, inside = module_of(t), (t > 0) & (t < 1)
    safe = xp.where(inside, t, 0.5)
    end = xp.where(t < 0.5, -_INFINITE, _INFINITE).astype(t.dtype)
    return xp.where(inside, xp.log(safe / (1 - safe)), end)


def _phi(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """phi_k(z) = sum of z^j / (j + k)! for k = 1, 2, 3; phi_1 is (e^z - 1) / z."""
    xp = module_of(z)
    small = xp.abs(z) < 0.5  # there the closed forms cancel
    near, far = xp.where(small, z, 0.0), xp.where(small, -1.0, z)
    factorials = np.cumprod([1.0, *range(1, 12)]).tolist()
    series = [sum(near**j / factorials[j + k] for j in range(8)) for k in (1, 2, 3)]
    phi_1 = xp.expm1(far) / far
    phi_2 = (phi_1 - 1) / far
    phi_3 = (phi_2 - 0.5) / far
    one, two, three = (
        xp.where(small, s, c) for s, c in zip(series, (phi_1, phi_2, phi_3), strict=True)
    )
    return one, two, three


def _never(times: Times) -> jax.Array:
    return module_of(times).full((), _NEVER, times.dtype)
