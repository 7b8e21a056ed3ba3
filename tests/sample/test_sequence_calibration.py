"""By which frames of a sequence the cameras are aligned."""

import numpy as np

from ditfuse_jax.align.calibration import Calibration
from ditfuse_jax.align.geometry import translation
from ditfuse_jax.align.warp import Warp
from ditfuse_jax.images import SourceRanges, read_image, write_image
from ditfuse_jax.images.frames import PairedFrames, open_sources
from ditfuse_jax.sample.sequence_calibration import (
    calibration_key,
    sample_pairs,
    sequence_calibration,
)
from ditfuse_jax.sample.stack_reader import StackReader
from tests.align.scenes import two_views


def test_only_frames_that_are_fused_with_each_other_align_the_cameras(tmp_path):
    for name in ("vis", "ir"):
        (tmp_path / name).mkdir()
        for k in range(6):
            write_image(tmp_path / name / f"{k}.png", np.full((4, 4, 3), k, np.uint8))
    (tmp_path / "ir" / "2.png").write_bytes(b"damaged")
    sources = open_sources([tmp_path / "vis", tmp_path / "ir"])
    # The second camera is slower: frame n of it belongs to the frames 2 n and 2 n + 1.
    pairs = PairedFrames((np.arange(6), np.arange(6) // 2))
    stacks = sample_pairs(sources, pairs, 8)
    found = [tuple(int(frame.samples.values[0, 0, 0]) for frame in stack) for stack in stacks]
    assert found == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert len(sample_pairs(sources, PairedFrames((np.arange(2), np.arange(2))), 8)) == 2


def test_one_residual_shift_serves_all_frames_which_keep_their_size(tmp_path):
    for name in ("vis", "ir"):
        (tmp_path / name).mkdir()
    for k, shift in enumerate([(3, -2), (3, -2), (-4, 4)]):  # of the last frame, by a mistake
        views = two_views(10 * k, translation(*shift))[:2]
        for name, image in zip(("vis", "ir"), views, strict=True):
            write_image(tmp_path / name / f"{k}.png", image)
    sources = open_sources([tmp_path / "vis", tmp_path / "ir"])
    pairs = PairedFrames((np.arange(3), np.arange(3)))
    ranges = SourceRanges([tuple(source.path for source in sources)], quiet=True)
    options = {"align": "residual", "align_save": None, "quiet": True}
    calibration = sequence_calibration(sources, pairs, ranges, **options)
    assert calibration is not None
    np.testing.assert_allclose(calibration.warps[0].matrix, translation(3, -2), atol=0.2)
    reader = StackReader([], ranges, align="residual", calibration=calibration, quiet=True)
    for stack in sample_pairs(sources, pairs, 3):
        images = reader.read(stack)
        np.testing.assert_array_equal(images[0], read_image(tmp_path / "vis" / stack[0].name))
        assert images[1].shape == images[0].shape


def test_estimates_that_differ_by_rounding_are_one_calibration():
    def key(change, place=(0, 2)):
        matrix = np.eye(3)
        matrix[0, 2] = 7.73
        matrix[place] += change
        return calibration_key(
            Calibration((Warp("homography", matrix, (240, 320), (240, 320)),), 8, 1)
        )

    assert key(1e-9) == key(-1e-9) == key(0)
    assert key(0.01) != key(0) and key(1e-6, (2, 0)) != key(0)
