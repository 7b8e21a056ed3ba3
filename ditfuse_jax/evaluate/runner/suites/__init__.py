"""Suites: data sets with published results.  A new suite is one file here and one line below.

Another module adds its own with `SUITES.register("mine", Suite(...))`.
"""

from ditfuse_jax.evaluate.runner.suites import degraded, dev, misaligned
from ditfuse_jax.evaluate.runner.suites.suite import Condition, EvaluationSet, Suite
from ditfuse_jax.registry import Registry

SUITES: Registry[Suite] = Registry(
    "suite", {"dev": dev.SUITE, "degraded": degraded.SUITE, "misaligned": misaligned.SUITE}
)

__all__ = ["SUITES", "Condition", "EvaluationSet", "Suite"]
