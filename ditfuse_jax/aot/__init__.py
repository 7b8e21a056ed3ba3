"""Ahead of time: compiling the real programs for accelerators that are not there."""

from ditfuse_jax.aot.compile import CompileConfig, compile_programs
from ditfuse_jax.aot.report import Report
from ditfuse_jax.aot.topology import Topology

__all__ = ["CompileConfig", "Report", "Topology", "compile_programs"]
