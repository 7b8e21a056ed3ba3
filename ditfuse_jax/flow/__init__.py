"""The flow between noise and image: path, times, loss, solver, guidance."""

from ditfuse_jax.flow.guidance import Guidance, combine
from ditfuse_jax.flow.loss import Objective, flow_matching_loss
from ditfuse_jax.flow.path import interpolate, to_velocity, velocity
from ditfuse_jax.flow.solver import euler
from ditfuse_jax.flow.times import time_grid, time_sampler

__all__ = [
    "Guidance",
    "Objective",
    "combine",
    "euler",
    "flow_matching_loss",
    "interpolate",
    "time_grid",
    "time_sampler",
    "to_velocity",
    "velocity",
]
