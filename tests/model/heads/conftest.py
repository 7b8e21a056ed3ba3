"""Inputs of heads."""

import numpy as np
import pytest

BATCH, DRAWS = 2, 2


@pytest.fixture(scope="module")
def inputs(models):
    """Hidden states, times, two sources (row 1 lacks the second), validity and grid."""
    random = np.random.default_rng(0)
    config = models.PIXEL
    rows, columns = models.GRID
    hidden = random.standard_normal((BATCH, DRAWS, rows * columns, config.hidden_size))
    time = random.standard_normal((BATCH, DRAWS, config.hidden_size))
    sources = random.uniform(-1, 1, (BATCH, 2, *models.image_shape(config)))
    return (
        hidden.astype("f4"),
        time.astype("f4"),
        sources.astype("f4"),
        np.array([[True, True], [True, False]]),
        models.GRID,
    )
