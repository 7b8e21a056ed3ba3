"""Metrics as functions of arrays."""

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate import metrics
from ditfuse_jax.images import write_image

RNG = np.random.default_rng(0)
A, B, FUSED = (RNG.integers(0, 256, (48, 56, 3), dtype=np.uint8) for _ in range(3))


@pytest.mark.medium
def test_a_function_gives_the_value_of_the_table():
    expected = metrics.compute_metrics(FUSED, [A, B], names=["Qabf", "VIF", "EN"])
    assert metrics.qabf(A, B, FUSED) == expected["Qabf"]
    assert metrics.vif(A, B, FUSED) == expected["VIF"]
    assert metrics.en(FUSED) == metrics.en(A, B, FUSED) == expected["EN"]


def test_a_full_reference_metric_takes_the_clean_image():
    assert metrics.psnr_clean(FUSED, clean=FUSED) == np.inf
    assert metrics.psnr_clean(A, B, FUSED, clean=A) < 20


def test_files_floats_and_grey_images_are_taken(tmp_path):
    write_image(tmp_path / "a.png", A)
    assert metrics.mi(tmp_path / "a.png", B / 255, FUSED) == metrics.mi(A, B, FUSED)
    grey = [np.repeat(image[..., :1], 3, axis=2) for image in (A, B, FUSED)]
    assert metrics.mi(A[..., 0], B[..., 0], FUSED[..., 0]) == metrics.mi(*grey)


def test_a_batch_gives_a_value_for_each_scene():
    many = [np.stack([image, image[::-1], image[:, ::-1]]) for image in (A, B, FUSED)]
    values = metrics.sd(*many)
    assert values.shape == (3,) and values.dtype == np.float32
    np.testing.assert_allclose(values, metrics.sd(A, B, FUSED), rtol=1e-5)
    with pytest.raises(UserError, match="arrays of as many scenes"):
        metrics.sd(A, *many[1:])


def test_wrong_use_is_explained():
    with pytest.raises(UserError, match="needs the sources and then the fused image"):
        metrics.qabf(FUSED)
    with pytest.raises(UserError, match="compares with a clean image"):
        metrics.psnr_clean(A, B, FUSED)
    with pytest.raises(AttributeError, match="no metric 'qabg'"):
        metrics.qabg(A, B, FUSED)


def test_every_metric_of_the_table_has_a_function_that_a_shell_completes():
    names = {name.lower() for name in metrics.METRICS}
    assert names <= set(dir(metrics))
    assert all(callable(getattr(metrics, name)) for name in names)
