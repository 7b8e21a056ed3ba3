"""Ahead of time: compiling the real programs for accelerators that are not there."""

from ditfuse_jax.aot.plan import Case, compile_case
from ditfuse_jax.aot.report import Report
from ditfuse_jax.aot.topology import Topology

__all__ = ["Case", "Report", "Topology", "compile_case"]
