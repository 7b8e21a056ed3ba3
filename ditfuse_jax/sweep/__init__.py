"""Sweeps: settings of a recipe compared over seeds, here or on a cluster, in one table."""

from ditfuse_jax.sweep.definition import Sweep, load_sweep
from ditfuse_jax.sweep.run import submit_sweep, sweep

__all__ = ["Sweep", "load_sweep", "submit_sweep", "sweep"]
