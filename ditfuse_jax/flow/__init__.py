"""The flow between noise and image: path, times, loss, solvers, guidance, sampling settings."""

from ditfuse_jax.flow import multistep as multistep  # registers its solvers
from ditfuse_jax.flow.guidance import Guidance, GuidanceRule, combine
from ditfuse_jax.flow.loss import LossConfig, flow_matching_loss
from ditfuse_jax.flow.path import interpolate, to_velocity, velocity
from ditfuse_jax.flow.sampling_config import SamplingConfig
from ditfuse_jax.flow.solvers import SOLVERS, Solver, find_solver
from ditfuse_jax.flow.times import TimeGrid, make_time_sampler, time_grid

__all__ = [
    "SOLVERS",
    "Guidance",
    "GuidanceRule",
    "LossConfig",
    "SamplingConfig",
    "Solver",
    "TimeGrid",
    "combine",
    "find_solver",
    "flow_matching_loss",
    "interpolate",
    "make_time_sampler",
    "time_grid",
    "to_velocity",
    "velocity",
]
