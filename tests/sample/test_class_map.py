"""Classes read from a fusion in which all are marked, coarsely, as a model marks them."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.degrade import overlay, overlay_all
from ditfuse_jax.degrade.overlay import OPACITY, PALETTE
from ditfuse_jax.prompts.requests import CLASSES
from ditfuse_jax.sample.class_map import NONE, class_labels, class_shares

SKY, BUILDING, ROAD, PAVEMENT = map(CLASSES.index, ("sky", "building", "road", "pavement"))
SIZE = 240, 320
# Road below a slanted line, building above it, sky above another one.
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]]
LABELS = np.full(SIZE, BUILDING)
LABELS[ROWS > 130 + COLUMNS / 4] = ROAD
LABELS[ROWS < 70 - COLUMNS / 6] = SKY


def scene(seed: int = 0) -> np.ndarray:
    """A picture with an edge wherever the labels change, and others."""
    rng = np.random.default_rng(seed)
    levels = {SKY: (200, 205, 215), BUILDING: (120, 95, 80), ROAD: (75, 80, 85)}
    image = np.array([levels.get(label, (90, 90, 90)) for label in LABELS.ravel()])
    image = image.reshape(*SIZE, 3) + 12 * np.sin(COLUMNS / 7)[..., None]
    return np.clip(image + rng.normal(0, 5, (*SIZE, 3)), 0, 255).astype(np.uint8)


def coarsely_marked(image: np.ndarray, labels: np.ndarray, cell: int = 16) -> np.ndarray:
    """Lays the colours of square cells over an image, each the mean of its pixels' colours."""
    height, width = labels.shape
    cells = cv2.resize(
        PALETTE[labels], (width // cell, height // cell), interpolation=cv2.INTER_AREA
    )
    colours = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    mixed = (1 - OPACITY) * image + OPACITY * colours
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def nearest(marked: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """The class of the nearest colour: what is read without regard to the surroundings."""
    colours = (marked - (1 - OPACITY) * plain.astype(np.float32)) / OPACITY
    return np.square(colours[..., None, :] - PALETTE).sum(-1).argmin(-1)


def agreement(found: np.ndarray, wanted: np.ndarray = LABELS) -> float:
    return float(np.mean(found == wanted))


def share_on_grid(labels: np.ndarray, cell: int) -> float:
    """The share of the places where labels change that lie between cells; 1 / cell by chance."""
    rows = np.flatnonzero(np.diff(labels, axis=0).any(axis=1))
    changes = np.argwhere(np.diff(labels, axis=0) != 0)[:, 0]
    assert len(rows)
    return float(np.mean((changes + 1) % cell == 0))


def test_borders_follow_the_image_and_not_the_cells_of_the_marks():
    image = scene()
    marked = coarsely_marked(image, LABELS)
    coarse, found = nearest(marked, image), class_labels([marked], image)
    assert agreement(coarse) < 0.97 < 0.99 < agreement(found)
    assert share_on_grid(coarse, 16) > 0.9
    assert share_on_grid(found, 16) < 0.15 and share_on_grid(found, 4) < 0.4


def test_a_sharp_overlay_is_read_back():
    image = scene()
    assert agreement(class_labels([overlay_all(image, LABELS)], image)) > 0.995


def test_half_way_between_two_colours_no_third_class_is_seen():
    """A road's and a pavement's colour make the sky's."""
    labels = np.where(COLUMNS < 150, ROAD, PAVEMENT)
    soft = cv2.GaussianBlur(PALETTE[labels], (0, 0), 6)
    image = np.full((*SIZE, 3), 100, np.uint8)
    marked = np.rint((1 - OPACITY) * image + OPACITY * soft).astype(np.uint8)
    assert (nearest(marked, image) == SKY).mean() > 0.01
    found = class_labels([marked], image)
    assert set(np.unique(found)) == {ROAD, PAVEMENT}
    assert agreement(found, labels) > 0.98


def test_a_fusion_without_marks_has_no_class():
    image = scene()
    assert (class_labels([image], image) == NONE).all()
    slightly = np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8)
    assert (class_labels([slightly], image) == NONE).mean() > 0.98


def test_shares_are_a_partition_that_explains_the_colours():
    rng = np.random.default_rng(1)
    plain = (scene()[::4, ::4] / 255).astype(np.float32)
    labels = LABELS[::4, ::4]
    colours = (PALETTE[labels] / 255 + rng.normal(0, 0.03, plain.shape)).astype(np.float32)
    shares = class_shares(np.clip(colours, 0, 1), plain)
    assert shares.shape == (60, 80, NONE + 1) and shares.min() >= 0
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    assert agreement(shares.argmax(-1), labels) > 0.99


def test_a_class_marked_alone_is_averaged_with_the_map():
    """Where all marks say building and those of the sky alone say sky, both are half right."""
    image = scene()
    marked = overlay_all(image, np.where(LABELS == SKY, BUILDING, LABELS))
    fully = {SKY: overlay(image, LABELS == SKY)}
    assert agreement(class_labels([marked], image, {SKY: image}) == SKY, False) == 1
    certain = class_labels([overlay_all(image, LABELS)], image, fully)
    assert agreement(certain) > 0.995
    # Half of a vote each: a little more of either decides.
    weak = marked.copy()
    weak[LABELS == SKY] = np.rint(0.7 * marked + 0.3 * image)[LABELS == SKY]
    found = class_labels([weak], image, fully)
    assert (found[LABELS == SKY] == SKY).mean() > 0.9
    assert agreement(found) > 0.95


@pytest.mark.parametrize("size", [(16, 16), (1, 40), (37, 900), (700, 500)])
def test_images_of_any_size_have_labels_of_their_size(size):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = class_labels([overlay_all(image, np.full(size, ROAD))], image)
    assert labels.shape == size and labels.dtype == np.uint8
    assert (labels == ROAD).mean() > 0.9


def test_a_scene_of_twice_the_size_has_the_same_map():
    image = scene()
    marked = coarsely_marked(image, LABELS)
    small = class_labels([marked], image)
    twice = [np.repeat(np.repeat(x, 2, 0), 2, 1) for x in (marked, image)]
    large = class_labels(twice[:1], twice[1])
    assert agreement(large[::2, ::2], small) > 0.985


def test_maps_of_several_sizes_count_alike():
    image = scene()
    wrong = np.where(LABELS == ROAD, PAVEMENT, LABELS)
    half = cv2.resize(overlay_all(image, LABELS), (160, 120), interpolation=cv2.INTER_AREA)
    maps = [half, overlay_all(image, wrong), overlay_all(image, LABELS)]
    assert agreement(class_labels(maps, image)) > 0.99
    assert agreement(class_labels(maps[:1], image)) > 0.98
    np.testing.assert_array_equal(class_labels(maps, image), class_labels(maps[::-1], image))
