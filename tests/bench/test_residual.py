"""Which pairs are a fair reference for `--align residual`, and what is lost without and with it."""

import argparse

import numpy as np
import pytest

from ditfuse_jax.align.geometry import translation
from ditfuse_jax.bench import residual
from ditfuse_jax.bench.residual import (
    is_confirmed,
    losses,
    registered_pairs,
    shift_by_mutual_information,
)
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner.degraded_results import CLEAN, DegradedResults
from ditfuse_jax.images import write_image
from tests.align.scenes import labels, render, two_views


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (1.4, 0.6)])
def test_mutual_information_finds_a_shift_between_modalities(shift):
    reference, moving, _ = two_views(0, translation(*shift))
    np.testing.assert_allclose(shift_by_mutual_information(reference, moving), shift, atol=0.3)


def test_a_shift_beyond_the_search_is_no_number():
    reference, moving, _ = two_views(0, translation(9, 0))
    assert np.isnan(shift_by_mutual_information(reference, moving)).all()


@pytest.mark.parametrize(("shift", "registered"), [((0, 0), True), ((1.2, 0), False)])
def test_only_pairs_that_both_estimates_confirm_count(tmp_path, shift, registered):
    reference, moving, _ = two_views(10, translation(*shift))
    assert is_confirmed(reference, moving) == registered
    write(tmp_path, {"pair": (reference, moving), "off": two_views(20, translation(3, 3))[:2]})
    found = [name for name, *_ in registered_pairs(tmp_path / "a", tmp_path / "b", False)]
    assert found == (["pair"] if registered else [])


def test_unrelated_images_are_not_registered():
    assert not is_confirmed(render(labels(100), 1), render(labels(200), 2))


def test_infrared_simulated_from_labels_always_counts(tmp_path):
    random = np.random.default_rng(0)
    coded = [labels(seed, 60, 80, count=11) for seed in range(2)]
    photographs = [random.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in coded]
    masks = [np.repeat(one[..., None], 3, axis=2) for one in coded]
    write(tmp_path, dict(zip("xy", zip(photographs, masks, strict=True), strict=True)))
    found = list(registered_pairs(tmp_path / "a", tmp_path / "b", True))
    assert [name for name, *_ in found] == ["x", "y"]
    for (_, photograph, infrared), original in zip(found, photographs, strict=True):
        np.testing.assert_array_equal(photograph, original)
        assert infrared.shape == original.shape and not np.array_equal(infrared, original)


def test_losses_are_counted_from_the_unshifted_sources_without_alignment():
    def results(clean, shifted):
        row = {metric: {"fused": 0.0} for metric in ("Qabf", "VIF", "SSIM")}
        cases = {
            case: row | {"Qabf": {"fused": value}}
            for case, value in ((CLEAN, clean), (("shifted", 0.75), shifted))
        }
        return DegradedResults({"pairs": {"x": cases}}, {})

    found = losses((results(0.6, 0.4), results(0.55, 0.5)), 0.75, "fused")
    assert found["Qabf"] == pytest.approx((0.2, 0.1))
    assert found["VIF"] == (0, 0)


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_shift_that_the_defect_does_not_have_is_refused(shift):
    with pytest.raises(UserError, match="--shift must be above 0 and at most 4"):
        residual.measure(argparse.Namespace(count=1, shift=shift))


def test_folders_without_a_registered_pair_are_refused(tmp_path):
    write(tmp_path, {name: two_views(20, translation(3, 3))[:2] for name in "xy"})
    args = argparse.Namespace(
        first=tmp_path / "a", second=tmp_path / "b", simulate=False, shift=3, count=1, task="ivif"
    )
    with pytest.raises(UserError, match="none of the pairs is registered"):
        residual.measure(args)


def write(folder, pairs):
    for name, images in pairs.items():
        for side, image in zip("ab", images, strict=True):
            (folder / side).mkdir(exist_ok=True)
            write_image(folder / side / f"{name}.png", image)
