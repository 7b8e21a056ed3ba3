"""Which image a role means, by what the images show."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import ROLES
from ditfuse_jax.sample.source_roles import describe_roles, find_source

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8)
GREY = np.repeat(COLOUR[..., :1], 3, axis=2)


def focused(near: bool) -> np.ndarray:
    """A scene that is blurred more and more away from the ground, or towards it."""
    blurred = cv2.GaussianBlur(COLOUR, (0, 0), 4)
    share = np.linspace(0, 1, 96)[:, None, None]
    return np.rint((share if near else 1 - share) * (COLOUR - 1.0 * blurred) + blurred).astype(
        np.uint8
    )


@pytest.mark.parametrize("sources", [(COLOUR, GREY), (GREY, COLOUR)])
def test_infrared_is_the_grey_image_beside_a_colour_one(sources):
    assert find_source("infrared", sources) == (0 if sources[0] is GREY else 1, "")
    assert find_source("visible", sources) == (1 if sources[0] is GREY else 0, "")


@pytest.mark.parametrize("swap", [False, True])
def test_exposures_are_told_by_their_brightness(swap):
    sources = [COLOUR // 3, COLOUR, 255 - (255 - COLOUR) // 3]
    sources = sources[::-1] if swap else sources
    assert find_source("under", sources) == (2 if swap else 0, "")
    assert find_source("over", sources) == (0 if swap else 2, "")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("swap", [False, True])
def test_the_near_image_is_the_one_that_is_sharper_further_down(swap, dtype):
    sources = [focused(True), focused(False)]
    sources = sources[::-1] if swap else sources
    sources = [image.astype(dtype) * (257 if dtype == np.uint16 else 1) for image in sources]
    assert find_source("near", sources) == (int(swap), "")
    assert find_source("far", sources) == (1 - int(swap), "")


@pytest.mark.parametrize(
    ("role", "index"),
    [("visible", 0), ("infrared", 1), ("under", 0), ("over", 1), ("near", 0), ("far", 1)],
)
def test_where_the_images_do_not_tell_their_order_decides_and_is_said(role, index):
    found, warning = find_source(role, [GREY, GREY])
    assert found == index
    assert f"which one is the {role} image: image {index + 1} is taken" in warning


def test_of_several_infrared_images_one_is_taken_and_no_colour_image():
    index, warning = find_source("infrared", [GREY, GREY[::-1], COLOUR])
    assert index == 1 and warning
    index, warning = find_source("visible", [GREY, COLOUR, COLOUR[::-1]])
    assert index == 1 and warning


def test_near_and_far_are_never_the_same_image():
    for seed in range(20):
        pair = np.random.default_rng(seed).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
        assert {find_source(role, pair)[0] for role in ("near", "far")} == {0, 1}


def test_places_are_never_guessed():
    assert find_source("first", [GREY, COLOUR]) == (0, "")
    assert find_source("second", [GREY, COLOUR]) == (1, "")
    with pytest.raises(UserError, match="no second image"):
        find_source("second", [GREY])


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_found_in_flat_and_tiny_images(role):
    for shape in ((1, 1, 3), (1, 9, 3), (64, 64, 3)):
        flat = np.full(shape, 90, np.uint8)
        assert find_source(role, [flat, flat])[0] in (0, 1)


def test_the_images_that_were_taken_are_described_and_guesses_are_marked():
    assert describe_roles(["infrared"], [COLOUR, GREY]) == "infrared: image 2"
    guessed = describe_roles(["near", "second", "visible"], [GREY, GREY])
    assert guessed == "near: image 1 (a guess), visible: image 1 (a guess)"
    assert describe_roles([], [GREY, GREY]) == ""
