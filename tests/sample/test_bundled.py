"""The bundled model: what a user gets without training anything."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import focus_pair
from ditfuse_jax.evaluate.metrics import compute_metrics
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.resources import resource
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.sample.tiles import plan_tiles
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.weights import SHIPPED

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def fuser():
    return StackFuser(load_trained(SHIPPED))


@pytest.fixture(scope="module")
def photograph():
    """256 x 224 pixels of a photograph that no model here was trained on: four tiles."""
    source = open_source("samples:heldout")
    image = source[list(source.names).index("chelsea")][0]
    return np.ascontiguousarray(image[20:276, 100:324])


def test_it_is_smaller_than_60_megabytes():
    size = sum(path.stat().st_size for path in resource("data", SHIPPED).iterdir())
    assert size < 60e6


def test_a_focus_pair_is_fused_to_a_sharp_image(fuser, photograph):
    """The result is nearer to the photograph than the mean, and sharper than either source."""
    pair = focus_pair(photograph, np.random.default_rng(3))
    sources = [pair.near, pair.far]
    (fused,) = fuser.fuse([FusionInput(sources, standard_prompt("mff", 2))])
    mean = np.mean(sources, axis=0).round().astype(np.uint8)
    error, of_mean = (np.mean((x.astype(float) - photograph) ** 2) for x in (fused, mean))
    assert error < of_mean
    sharpness = [compute_metrics(x, sources, names=["SF"])["SF"] for x in (fused, *sources)]
    assert sharpness[0] > max(sharpness[1:])


def test_tiles_leave_no_lines_on_flat_images(fuser):
    """The steps at the borders of tiles are no larger than those at other borders of patches."""
    flat = [np.full((192, 288, 3), grey, np.uint8) for grey in (90, 160)]
    (fused,) = fuser.fuse([FusionInput(flat, standard_prompt("ivif", 2))])
    assert fused.std() < 5
    tile = fuser.sampling.tile
    steps = np.abs(np.diff(fused.astype(float).mean(-1), axis=1)).mean(0)
    columns = plan_tiles((192, 288), tile, 16).columns
    ends = [column + tile for column in columns[:-1]]
    borders = np.arange(16, 288, 16)
    assert len(columns) > 2 and {*columns[1:], *ends} <= {*borders}
    of_tiles = steps[[border - 1 for border in (*columns[1:], *ends)]]
    assert of_tiles.mean() < 1.5 * steps[borders - 1].mean()


def test_large_images_are_computed_in_full(fuser):
    assert fuser.sampling.tile and fuser.computed_size(4000, 6000) is None


@pytest.mark.slow
def test_brightness_and_contrast_follow_the_task(fuser, photograph):
    """On a focus pair, with the standard sentences and tags."""
    pair = focus_pair(photograph, np.random.default_rng(3))

    def fused(*tasks):
        inputs = [FusionInput([pair.near, pair.far], standard_prompt(task, 2)) for task in tasks]
        return [image.astype(float) for image in fuser.fuse(inputs)]

    brightness = [image.mean() for image in fused("light--", "light-", "mff", "light+", "light++")]
    assert min(np.diff(brightness)) > 5
    contrast = [image.std() for image in fused("contrast-", "mff", "contrast+")]
    assert min(np.diff(contrast)) > 2


@pytest.mark.parametrize(
    "size", [(160, 160), (163, 171), pytest.param((160, 2048), marks=pytest.mark.slow)]
)
def test_an_image_of_any_size_keeps_its_size(fuser, size):
    rows, columns = np.indices(size)
    ramp = (127 + 60 * np.sin(columns / 9) + 60 * np.cos(rows / 7))[..., None].repeat(3, axis=2)
    sources = [ramp.astype(np.uint8), (ramp // 2).astype(np.uint8)]
    (fused,) = fuser.fuse([FusionInput(sources, standard_prompt("mef", 2))])
    assert fused.shape == sources[0].shape
    assert 20 < fused.std() < 110


def test_the_command_uses_the_bundled_model_by_default(photograph, tmp_path):
    from ditfuse_jax.cli import main

    pair = focus_pair(photograph, np.random.default_rng(3))
    for name, image in (("a", pair.near), ("b", pair.far)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image[..., ::-1])
    inputs = [str(tmp_path / f"{name}.png") for name in "ab"]
    assert not main(["fuse", *inputs, "-o", str(tmp_path / "fused.png"), "--task", "mff"])
    fused = cv2.imread(str(tmp_path / "fused.png"))
    assert fused is not None and fused.shape == photograph.shape
