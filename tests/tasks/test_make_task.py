"""Recipes describe tasks by name, with options as text or as a dict."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from ditfuse_jax.degrade import M3Config
from ditfuse_jax.errors import UserError
from ditfuse_jax.tasks import (
    IVIF,
    M3,
    MEF,
    TASKS,
    Control,
    Example,
    Records,
    Segmentation,
    Task,
    make_task,
)
from ditfuse_jax.tasks.street_views import StreetViews


@dataclasses.dataclass(frozen=True)
class Stripes:
    """A user's task with options of many types."""

    width: int = 8
    angle: float = 0.0
    soft: bool = False
    pool: str | None = None
    colours: tuple[str, ...] = ("red",)
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"a": 1.0})
    base: Task = dataclasses.field(default_factory=M3)
    sizes: tuple[tuple[int, int], ...] = ()
    num_images: int = dataclasses.field(default=1, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], rng: np.random.Generator, crop: tuple[int, int] | None
    ) -> Example:
        return Example((images[0],), "Stripes.", images[0])


@pytest.fixture(autouse=True)
def stripes(monkeypatch):
    monkeypatch.setitem(TASKS._entries, "stripes", Stripes())


def test_a_name_is_the_registered_task():
    assert make_task("m3") is TASKS["m3"]


def test_a_task_is_returned_as_it_is():
    task = Stripes()
    assert make_task(task) is task


def test_text_and_dict_describe_the_same_task():
    text = "m3_extended:block_sides=16+32,overlap_fraction=0.5,degradations=mask+blur"
    options = {
        "block_sides": (16, 32),
        "overlap_fraction": 0.5,
        "degradations": {"mask": 1.0, "blur": 1.0},
    }
    expected = M3(M3Config((16, 32), 0.5, {"mask": 1.0, "blur": 1.0}), ("fusion", "restoration"))
    assert make_task(text) == make_task({"name": "m3_extended", **options}) == expected


@pytest.mark.parametrize(
    ("spec", "task"),
    [
        ("m3:overlap_fraction=1", M3(M3Config(overlap_fraction=1.0))),
        ({"name": "m3", "config": {"overlap_fraction": 1}}, M3(M3Config(overlap_fraction=1.0))),
        ("m3:pools=fusion+restoration", M3(pools=("fusion", "restoration"))),
        ("ivif:target=detail", IVIF("detail")),
        ("mef_detail:target=none", MEF(None)),
        ({"name": "mef_detail", "target": None}, MEF(None)),
        ("segmentation:kinds=m3", Segmentation(StreetViews({"m3": 1.0}))),
        ("records:num_sources=4", Records(4)),
        ("control_m3:overlap_fraction=1", Control(M3(M3Config(overlap_fraction=1.0)))),
        ({"name": "control_m3", "base": "ivif"}, Control(IVIF())),
        (
            {"name": "control_m3", "base": {"name": "ivif", "target": "detail"}},
            Control(IVIF("detail")),
        ),
        ("stripes:width=3,angle=2,soft=true", Stripes(3, 2.0, True)),
        (
            "stripes:pool=mff,colours=red+green",
            Stripes(pool="mff", colours=("red", "green")),
        ),
        ({"name": "stripes", "colours": ["blue"]}, Stripes(colours=("blue",))),
        ({"name": "stripes", "weights": ["b", "c"]}, Stripes(weights={"b": 1.0, "c": 1.0})),
        ({"name": "stripes", "weights": {"b": 2}}, Stripes(weights={"b": 2.0})),
        ({"name": "stripes", "sizes": [[1, 2]]}, Stripes(sizes=([1, 2],))),  # type: ignore[arg-type]
    ],
)
def test_options_are_the_fields_of_the_task_and_of_its_parts(spec, task):
    assert make_task(spec) == task


def test_the_registered_task_keeps_its_options():
    make_task("m3:overlap_fraction=1")
    assert TASKS["m3"] == M3()


def test_a_registered_class_gives_a_task_with_its_defaults(monkeypatch):
    monkeypatch.setitem(TASKS._entries, "class", Stripes)
    assert make_task("class") == Stripes() and make_task("class:width=2") == Stripes(2)


def test_a_task_whose_annotations_cannot_be_resolved_takes_options_unconverted(monkeypatch):
    @dataclasses.dataclass
    class Unresolved:
        width: "OnlyForTypeCheckers" = 1  # type: ignore[name-defined] # noqa: F821

    monkeypatch.setitem(TASKS._entries, "unresolved", Unresolved())
    assert make_task({"name": "unresolved", "width": 2}) == Unresolved(2)


def test_a_task_that_is_not_a_dataclass_has_no_options(monkeypatch):
    class Plain:
        num_images = 1

    monkeypatch.setitem(TASKS._entries, "plain", Plain())
    assert isinstance(make_task("plain"), Plain)
    with pytest.raises(UserError, match="task 'plain' has no options"):
        make_task("plain:width=2")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("m4", "task 'm4' is unknown; choose from m3, "),
        ("mff:overlap_fraction=1", "task 'mff': option 'overlap_fraction' is unknown; .* none"),
        ("m3:", "task 'm3:': '' is not of the form OPTION=VALUE"),
        ("m3:overlap_fraction", "'overlap_fraction' is not of the form OPTION=VALUE"),
        ("m3:overlap_fraction=1,overlap_fraction=0", "'overlap_fraction' is given twice"),
        (
            "m3:blocks=32",
            "task 'm3': option 'blocks' is unknown; choose from config, pools, misalign, "
            "block_sides, overlap_fraction, degradations",
        ),
        ("m3:num_images=2", "option 'num_images' is unknown"),
        ("m3:block_sides=wide", "task 'm3': option block_sides cannot be 'wide'"),
        ("m3:block_sides=0", "must be positive pixels"),
        ("m3:overlap_fraction=2", r"must lie in 0\.\.1"),
        ("m3:degradations=mask+rain", "task 'm3': degradation 'rain' is unknown; choose from mask"),
        ({"overlap_fraction": 1}, "lacks its name"),
        ({"name": "m3", "overlap_fraction": "wide"}, "option overlap_fraction cannot be 'wide'"),
        ({"name": "m3", "config": {"blocks": 1}}, "task 'm3': option 'blocks' is unknown"),
        ({"name": "control_m3", "base": "m4"}, "task 'control_m3': training task 'm4' is unknown"),
        ({"name": "stripes", "width": 1.5}, r"option width cannot be 1\.5 \(expected int\)"),
        ({"name": "stripes", "width": True}, r"option width cannot be True \(expected int\)"),
        ({"name": "stripes", "colours": 3}, r"cannot be 3 \(expected several values\)"),
        ("requested_ivif:misalign=0.5", "misalign: emphasis needs registered sources"),
        ("stripes:soft=maybe", "option soft cannot be 'maybe'"),
        ("stripes:sizes=1+2", "option sizes cannot be '1.2' .this option cannot be given as text"),
    ],
)
def test_an_invalid_task_is_refused_by_name(spec, message):
    with pytest.raises(UserError, match=message):
        make_task(spec)
