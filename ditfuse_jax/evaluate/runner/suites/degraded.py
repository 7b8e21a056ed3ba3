"""Sources with noise, bad light or bad weather: how far the fused image changes.

A defect of the visible light (darkness, haze, rain, colour cast, exposure) is on the visible image
of a visible and an infrared camera; the stripes of a thermal sensor on the infrared one; noise and
blur on both.  In the other sets both images come from one camera, and both have it.
"""

from ditfuse_jax.evaluate.runner.suites import dev
from ditfuse_jax.evaluate.runner.suites.suite import Condition, Suite

STRENGTHS = (0.0, 0.5, 1.0)  # weak, medium, strong

SUITE = Suite(
    title="Degraded sources",
    root=dev.SUITE.root,
    sets=dev.without_published("roadscene_dev", "tno_dev", "lytro_dev", "mefb_dev"),
    conditions=(
        Condition("noisy", STRENGTHS),
        Condition("dark", STRENGTHS, "visible"),
        Condition("hazy", STRENGTHS, "visible"),
        Condition("rainy", STRENGTHS, "visible"),
        Condition("stripes", STRENGTHS, "infrared"),
        Condition("blurred", STRENGTHS),
        Condition("cast", STRENGTHS, "visible"),
        Condition("overexposed", STRENGTHS, "visible"),
        Condition("underexposed", STRENGTHS, "visible"),
    ),
)
