"""Infrared images that are shifted: what the fusion of visible and infrared images loses by it.

Fused images are scored against the registered sources, so that a doubled edge counts as lost.
"""

import dataclasses

from ditfuse_jax.evaluate.runner.suites import dev
from ditfuse_jax.evaluate.runner.suites.suite import Condition, Suite

STRENGTHS = (0.25, 0.5, 0.75, 1.0)  # of `shifted`: 1 to 4 pixels
_SETS = ("roadscene_dev", "tno_dev")

SUITE = Suite(
    title="Misaligned sources",
    root=dev.SUITE.root,
    sets=tuple(
        dataclasses.replace(s, published=None, suffix=".png", note="")
        for s in dev.SUITE.sets
        if s.name in _SETS
    ),
    conditions=(Condition("shifted", STRENGTHS, "infrared"),),
    against="sources",
)
