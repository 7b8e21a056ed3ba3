"""Ahead-of-time compilation of the training step and the sampler for absent accelerators."""

from ditfuse_jax.aot.compile import CompileConfig, compile_for_card, compile_programs
from ditfuse_jax.aot.report import Report
from ditfuse_jax.aot.topology import Topology

__all__ = ["CompileConfig", "Report", "Topology", "compile_for_card", "compile_programs"]
