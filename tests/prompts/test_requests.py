"""Requests, their text forms, and the prompts that ask for them."""

import pytest

from ditfuse_jax.degrade import TONES
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import SUBTASKS, split_prompt, task_prompt
from ditfuse_jax.prompts.request_prompts import request_tag, requests_prompt
from ditfuse_jax.prompts.requests import (
    DEFECTS,
    Request,
    check_requests,
    describe,
    parse_adjustment,
)
from ditfuse_jax.prompts.taught_requests import TaughtRequests


@pytest.mark.parametrize(
    ("text", "request_", "shown"),
    [
        ("brightness=+1", Request("brightness", 1), "brightness +1"),
        ("road:contrast=-2", Request("contrast", -2, ("road",)), "road: contrast -2"),
        ("car+sky:detail=1", Request("detail", 1, ("sky", "car")), "sky, car: detail +1"),
        ("infrared=+2", Request("emphasis", 2, role="infrared"), "emphasis infrared +2"),
    ],
)
def test_an_adjustment_is_read_and_shown(text: str, request_: Request, shown: str):
    assert parse_adjustment(text) == request_
    assert str(request_) == shown


@pytest.mark.parametrize(
    "text", ["brightness", "brightness=3", "brightness=0", "glow=1", "moon:detail=1", "=1", "a b=1"]
)
def test_a_bad_adjustment_is_refused_by_name(text: str):
    with pytest.raises(UserError, match=r"adjustment|level|class"):
        parse_adjustment(text)


@pytest.mark.parametrize(
    "arguments",
    [
        {"axis": "brightness"},
        {"axis": "segment", "level": 1},
        {"axis": "emphasis", "level": 1},
        {"axis": "repair"},
        {"axis": "contrast", "level": 1, "role": "first"},
        {"axis": "detail", "level": 1, "defect": "noisy"},
        {"axis": "glow", "level": 1},
    ],
)
def test_a_request_that_is_not_complete_is_refused(arguments: dict):
    with pytest.raises(UserError):
        Request(**arguments)


def test_two_requests_about_the_same_and_more_than_three_are_refused():
    one, other = Request("contrast", 1), Request("contrast", -1)
    with pytest.raises(UserError, match="same"):
        check_requests([one, other])
    with pytest.raises(UserError, match="at most 3"):
        check_requests([one, *(Request("detail", 1, (c,)) for c in ("sky", "car", "road"))])
    assert describe([]) == "nothing"


@pytest.mark.parametrize("tag", TONES)
def test_a_single_tone_request_has_the_prompt_of_the_original_tags(tag: str):
    axis = {"LIGHT": "brightness"}.get(tag.rstrip("+-"), tag.rstrip("+-").lower())
    level = tag.count("+") - tag.count("-")
    prompt = requests_prompt([Request(axis, level)], 2)
    instruction = split_prompt(prompt, 2).segments[-1].removeprefix("</img>. ")
    assert prompt == task_prompt("CONTROL", tag, instruction)


def test_several_requests_are_tags_with_their_classes_and_sources_before_the_images():
    requests = [
        Request("brightness", 2, ("road", "car")),
        Request("emphasis", -1, role="infrared"),
        Request("repair", defect="noisy"),
    ]
    prompt = requests_prompt(requests, 3)
    head = "[CONTROL]. <LIGHT++> road, car. <EMPHASIS-> infrared. <NOISY>. This is the first image "
    assert prompt.startswith(head)
    assert split_prompt(prompt, 3).order == (0, 1, 2)


def test_every_request_has_a_tag_of_its_own():
    levels = [-2, -1, 1, 2]
    requests = [Request(a, n) for a in ("brightness", "contrast", "saturation") for n in levels]
    requests += [Request("emphasis", n, role="first") for n in levels]
    requests += [Request("repair", defect=defect) for defect in DEFECTS]
    tags = {request_tag(one) for one in requests}
    assert len(tags) == len(requests)
    assert tags <= set(SUBTASKS["CONTROL"])


def test_what_a_model_was_not_taught_is_left_out_with_the_reason():
    taught = TaughtRequests.parse("brightness,contrast:1,segment")
    wanted = [
        Request("contrast", -2),
        Request("saturation", 1),
        Request("brightness", 1, ("road",)),
        Request("brightness", 1),
    ]
    divided = taught.divide(wanted, apply=False)
    assert divided.asked == (Request("contrast", -1),) and divided.applied == ()
    assert [request for request, _ in divided.left_out] == wanted[1:]
    reasons = [reason.split()[-1] for _, reason in divided.left_out]
    assert reasons == ["saturation", "class", "time"]
    everything = TaughtRequests.parse("brightness,contrast,saturation,regions,compounds")
    assert everything.divide(wanted, apply=True).asked == tuple(wanted)


def test_what_a_model_was_not_taught_is_applied_to_its_image():
    taught = TaughtRequests.parse("brightness,contrast:1,segment")
    wanted = [
        Request("segment", classes=("car",)),
        Request("brightness", 1),
        Request("contrast", 2),
        Request("detail", 1, ("road",)),
        Request("emphasis", -1, role="infrared"),
    ]
    divided = taught.divide(wanted, apply=True)
    assert divided.asked == (Request("brightness", 1),)
    assert set(divided.applied) == set(wanted) - set(divided.asked)
    assert divided.applied[-1].axis == "segment"  # it covers what the others change


def test_an_overlay_is_moved_to_the_image_that_requests_were_applied_to():
    taught = TaughtRequests.parse("brightness,segment,compounds")
    mark, grey = Request("segment", classes=("car",)), Request("saturation", -2)
    divided = taught.divide([mark, grey], apply=True)
    assert divided.asked == () and divided.applied == (grey, mark)
    assert taught.divide([mark, Request("brightness", 1)], apply=True).applied == ()


def test_a_class_needs_a_model_that_marks_it():
    taught = TaughtRequests.parse("brightness")
    wanted = [
        Request("brightness", 2, ("sky",)),
        Request("segment"),
        Request("repair", defect="hazy"),
    ]
    divided = taught.divide(wanted, apply=True)
    assert divided.asked == () and divided.applied == (wanted[2],)
    assert all(reason for _, reason in divided.left_out) and len(divided.left_out) == 2


def test_a_level_that_can_be_neither_taught_nor_applied_becomes_the_strongest_taught():
    taught = TaughtRequests.parse("contrast:1,regions")
    divided = taught.divide([Request("contrast", 2, ("sky",))], apply=True)
    assert divided.asked == (Request("contrast", 1, ("sky",)),)


def test_an_unknown_entry_of_what_was_taught_is_refused():
    with pytest.raises(UserError, match="glow"):
        TaughtRequests.parse("brightness,glow")
