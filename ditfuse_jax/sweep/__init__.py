"""Sweeps: compare settings of a recipe over seeds, on this machine or a cluster, in one table."""

from ditfuse_jax.sweep.definition import SWEEPS, Sweep, load_sweep
from ditfuse_jax.sweep.run import submit_sweep, sweep

__all__ = ["SWEEPS", "Sweep", "load_sweep", "submit_sweep", "sweep"]
