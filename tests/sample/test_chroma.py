import numpy as np
import pytest

from ditfuse_jax.images import is_grey
from ditfuse_jax.prompts import as_prompt
from ditfuse_jax.prompts.request_prompts import requests_prompt
from ditfuse_jax.prompts.requests import parse_requests
from ditfuse_jax.sample.chroma import with_asked_chroma
from ditfuse_jax.sample.standard_prompts import standard_prompt

COLOURED = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
GREY = np.repeat(COLOURED[..., :1], 3, axis=-1)
FAINT = (COLOURED // 8 + GREY // 8 * 7).astype(np.uint8)


def prompt(requests):
    return requests_prompt(parse_requests(requests), 2)


@pytest.mark.parametrize(
    "of",
    [
        standard_prompt("fuse", 2),
        standard_prompt("ivif", 2),
        standard_prompt("light+", 2),
        prompt("saturation +2"),
        prompt("repair cast first"),
        prompt("road: brightness -1; contrast +1"),
        as_prompt("fuse them", 2),
    ],
)
def test_grey_sources_give_a_grey_image(of):
    assert is_grey(with_asked_chroma(COLOURED, [GREY, GREY], of))


@pytest.mark.parametrize(
    "of", [standard_prompt("segment:road", 2), prompt("brightness +1; segment car")]
)
def test_overlays_keep_their_colour_on_grey_sources(of):
    np.testing.assert_array_equal(with_asked_chroma(COLOURED, [GREY, GREY], of), COLOURED)


@pytest.mark.parametrize("of", ["saturation +1", "saturation +2; detail +1", "repair cast first"])
def test_coloured_sources_may_get_more_chroma_where_it_is_asked_for(of):
    np.testing.assert_array_equal(with_asked_chroma(COLOURED, [FAINT, GREY], prompt(of)), COLOURED)


@pytest.mark.parametrize("of", ["saturation -1", "detail +1", "repair stripes first"])
def test_other_requests_do_not_add_chroma(of):
    assert (with_asked_chroma(COLOURED, [FAINT, GREY], prompt(of)) != COLOURED).any()


def test_a_prompt_without_known_tags_is_not_limited():
    for of in ("Colourise <|image_1|> please", "[TINT]. <SEPIA>. <|image_1|>"):
        np.testing.assert_array_equal(with_asked_chroma(COLOURED, [GREY], of), COLOURED)
