"""A sequence's roles are decided once, by the frames that show them."""

import numpy as np

from ditfuse_jax.prompts.requests import parse_requests
from ditfuse_jax.sample.fixed_roles import decide_roles, with_frame
from ditfuse_jax.sample.fusion_input import FusionInput
from ditfuse_jax.sample.source_roles import find_source

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)
GREY = np.repeat(COLOUR[..., :1], 3, axis=2)
BLACK = np.zeros_like(GREY)


def test_a_black_frame_does_not_change_which_image_is_infrared():
    requests = parse_requests("emphasis infrared +1; repair noisy visible; brightness -1")
    frames = [(GREY, BLACK), (GREY, COLOUR), (GREY, COLOUR)]
    roles = decide_roles(requests, frames)
    assert roles == {"infrared": (0, ""), "visible": (1, "")}
    dark = FusionInput(frames[0], "", applied=requests, roles=roles)
    assert dark.source_roles == "infrared: image 1, visible: image 2"


def test_a_third_source_is_decided_once_too():
    requests = parse_requests("emphasis infrared +1")
    roles = decide_roles(requests, [(COLOUR, COLOUR, GREY), (COLOUR, BLACK, GREY)])
    assert roles == {"infrared": (2, "")}


def test_without_a_clear_frame_the_first_ones_guess_is_taken_with_its_warning():
    roles = decide_roles(parse_requests("emphasis infrared +1"), [(GREY, GREY), (BLACK, GREY)])
    assert roles == {"infrared": find_source("infrared", (GREY, GREY))}
    assert "do not show which one is the infrared image" in roles["infrared"][1]


def test_requests_that_name_places_or_no_source_read_no_frame():
    def frames():
        raise AssertionError("no frame is needed")
        yield

    assert decide_roles(parse_requests("emphasis first +2; detail +1"), frames()) == {}


def test_in_a_stream_a_guess_ends_with_the_first_frame_that_is_sure():
    requests = parse_requests("emphasis infrared +1")
    dark = with_frame({}, requests, (GREY, BLACK))
    assert dark["infrared"][0] == 1 and dark["infrared"][1]
    sure = with_frame(dark, requests, (GREY, COLOUR))
    assert sure == {"infrared": (0, "")}
    assert with_frame(sure, requests, (COLOUR, GREY)) == sure
