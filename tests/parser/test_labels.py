import numpy as np
import pytest

from ditfuse_jax.parser.labels import OUTPUTS, to_labels, to_requests
from ditfuse_jax.prompts.requests import MAX_REQUESTS, check_requests, describe, parse_requests


def logits_of(*slots):
    """Returns logits whose largest values say one request in each slot."""
    found = {name: np.zeros((MAX_REQUESTS, count)) for name, count in OUTPUTS.items()}
    found["axis"][:, -1] = 1
    for slot, text in enumerate(slots):
        labels = to_labels([parse_requests(text)])
        for name, values in found.items():
            label = labels[name][0, 0]
            if name == "classes":
                values[slot] = 2 * label - 1
            elif label >= 0:
                values[slot] = np.eye(values.shape[1])[label]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "brightness -2",
        "road, car: contrast +1; detail -1; emphasis infrared +2",
        "repair hazy second; segment all",
        "segment car; car: brightness +1; brightness -1",
        "tree: detail +1; sky: detail -1",
    ],
)
def test_labels_of_requests_are_read_back(text):
    slots = [] if text == "nothing" else text.split("; ")
    assert describe(to_requests(logits_of(*slots))) == text


@pytest.mark.parametrize(
    ("slots", "understood"),
    [
        (("contrast -1", "contrast -2"), "contrast -1"),
        (("brightness +1", "detail +1", "brightness -1"), "brightness +1; detail +1"),
        (("fence: detail +1", "detail +1"), "fence: detail +1"),
        (("detail +1", "fence: detail +1"), "fence: detail +1"),
        (("emphasis near +1", "emphasis near -1"), "emphasis near +1"),
    ],
)
def test_slots_about_the_same_are_one_request(slots, understood):
    found = to_requests(logits_of(*slots))
    assert describe(found) == understood
    check_requests(found)
