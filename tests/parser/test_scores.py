"""How often a parser is right: each score counts what its name says."""

from ditfuse_jax.parser.scores import parsing_scores
from ditfuse_jax.prompts.requests import Request

_UP, _UP2, _DOWN = Request("brightness", 1), Request("brightness", 2), Request("brightness", -1)
_ROAD = Request("brightness", 1, ("road",))


def test_all_right_is_one_everywhere():
    wanted = [(_UP,), (), (_ROAD,), (Request("segment", classes=("car",)),)]
    assert set(parsing_scores(wanted, wanted).values()) == {1.0}


def test_a_wrong_degree_keeps_the_direction():
    scores = parsing_scores([(_UP,)], [(_UP2,)])
    assert (scores["exact"], scores["direction"], scores["brightness"]) == (0, 1, 1)
    assert scores["brightness degree"] == 0


def test_a_wrong_direction_is_wrong_and_has_no_degree():
    scores = parsing_scores([(_UP,)], [(_DOWN,)])
    assert scores["brightness"] == scores["direction"] == 0
    assert "brightness degree" not in scores


def test_classes_count_where_a_request_is_limited():
    assert parsing_scores([(_ROAD,), (_UP,)], [(_UP,), (_UP,)])["classes"] == 0
    assert "classes" not in parsing_scores([(_UP,)], [(_UP,)])


def test_what_is_invented_lowers_nothing_and_exact():
    scores = parsing_scores([(), ()], [(_UP,), ()])
    assert scores["nothing"] == scores["exact"] == 0.5
