"""Infrared images that are shifted: what the fusion of visible and infrared images loses by it.

Fused images are scored against the registered sources, so that a doubled edge counts as lost.
"""

from ditfuse_jax.evaluate.runner.suites import dev
from ditfuse_jax.evaluate.runner.suites.suite import Condition, Suite

STRENGTHS = (0.25, 0.5, 0.75, 1.0)  # of `shifted`: 1 to 4 pixels

SUITE = Suite(
    title="Misaligned sources",
    root=dev.SUITE.root,
    sets=dev.without_published("roadscene_dev", "tno_dev"),
    conditions=(Condition("shifted", STRENGTHS, "infrared"),),
    against="sources",
)
