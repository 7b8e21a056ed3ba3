"""A sequence's roles are decided once, by the frames that show them."""

import numpy as np

from ditfuse_jax.prompts.requests import parse_requests
from ditfuse_jax.sample.fixed_roles import fix_roles

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)
GREY = np.repeat(COLOUR[..., :1], 3, axis=2)
BLACK = np.zeros_like(GREY)


def test_a_black_frame_does_not_change_which_image_is_infrared():
    requests = parse_requests("emphasis infrared +1; repair noisy visible; brightness -1")
    frames = [(GREY, BLACK), (GREY, COLOUR), (GREY, COLOUR)]
    fixed, roles = fix_roles(requests, frames)
    assert [one.role for one in fixed] == ["first", "second", None]
    assert [(one.axis, one.level, one.defect) for one in fixed] == [
        (one.axis, one.level, one.defect) for one in requests
    ]
    assert roles == "infrared: image 1, visible: image 2"


def test_without_a_clear_frame_the_first_ones_guess_is_taken_and_marked():
    fixed, roles = fix_roles(parse_requests("emphasis infrared +1"), [(GREY, GREY), (BLACK, GREY)])
    assert fixed[0].role == "second" and roles == "infrared: image 2 (a guess)"


def test_requests_that_name_places_or_no_source_stay_and_read_no_frame():
    requests = parse_requests("emphasis first +2; detail +1")

    def frames():
        raise AssertionError("no frame is needed")
        yield

    assert fix_roles(requests, frames()) == (requests, "")
