"""Images to score and the float64 oracle to score them with."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ditfuse_jax.evaluate.metrics import METRICS, compute_metrics_of_candidates


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """Every metric in float64 NumPy (`oracle/`)."""
    path = Path(__file__).parent / "oracle" / "__init__.py"
    spec = importlib.util.spec_from_file_location("metrics_oracle", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its files import each other
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def scene() -> Callable[..., np.ndarray]:
    """Draws uint8 RGB images: `scene(kind, height, width)`; odd and even by default.

    Kinds: "photo" and "other" (smooth with noise), "noise", "night" (three dark levels), "harsh"
    (saturated at both ends), "flat90".
    """

    def draw(kind: str, height: int = 43, width: int = 50) -> np.ndarray:
        rng = np.random.default_rng(sum(map(ord, kind)))
        shape = (height, width, 3)
        if kind.startswith("flat"):
            return np.full(shape, int(kind[4:]), np.uint8)
        y, x = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
        smooth = 120 + 80 * np.sin(x / 9 + np.arange(3)) * np.cos(y / 7)
        image = {
            "photo": smooth + rng.normal(0, 6, shape),
            "other": smooth[:, ::-1] * 0.7 + rng.normal(0, 3, shape),
            "noise": rng.integers(0, 256, shape),
            "night": rng.integers(0, 3, shape),
            "harsh": np.where(smooth > 150, 255, np.where(smooth < 100, 0, smooth)),
        }[kind]
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def score_five(scene) -> Callable[..., dict[str, np.ndarray]]:
    """Scores up to five fused images, by kind or as arrays, with most metrics and one program.

    All that need not a clean image or many seconds and fit images of 43 pixels.
    """
    names = [
        name
        for name, metric in METRICS.items()
        if metric.needs != "clean" and metric.smallest_side <= 43 and not name.startswith("FMI")
    ]

    def run(fused, sources) -> dict[str, np.ndarray]:
        images = [scene(x) if isinstance(x, str) else x for x in (*fused, *sources)]
        candidates, sources = images[: len(fused)], images[len(fused) :]
        five = candidates + candidates[:1] * (5 - len(candidates))
        scores = compute_metrics_of_candidates(five, sources, names=names)
        return {name: values[: len(candidates)] for name, values in scores.items()}

    return run
