"""The baseline that the metrics' speed is measured against computes the same metrics."""

import numpy as np
import pytest

from ditfuse_jax.bench.metrics_baseline import twelve_metrics
from ditfuse_jax.evaluate.metrics import compute_metrics

pytestmark = pytest.mark.medium


def test_the_baseline_computes_the_same_metrics():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :53]
    smooth = 120 + 70 * np.sin(x / 9) * np.cos(y / 7)
    grey = [np.clip(np.rint(smooth + rng.normal(0, s, x.shape)), 0, 255) for s in (2, 9, 25)]
    baseline = twelve_metrics(*grey)
    rgb = [np.stack([image.astype(np.uint8)] * 3, axis=-1) for image in grey]
    ours = compute_metrics(rgb[0], rgb[1:], names=list(baseline))
    assert baseline == {name: pytest.approx(value, rel=1e-5) for name, value in ours.items()}
