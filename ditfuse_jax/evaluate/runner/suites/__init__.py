"""Suites: evaluation sets with published results, by name.  A new one is a file and a line here."""

from ditfuse_jax.evaluate.runner.suites import dev
from ditfuse_jax.evaluate.runner.suites.suite import EvaluationSet, Suite

SUITES: dict[str, Suite] = {"dev": dev.SUITE}

__all__ = ["SUITES", "EvaluationSet", "Suite"]
