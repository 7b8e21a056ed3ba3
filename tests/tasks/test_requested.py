"""Fusion with requests: the target shows what the prompt asks for."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from ditfuse_jax.degrade.adjust import adjust
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import CLASSES, Request
from ditfuse_jax.tasks import Example, make_task
from ditfuse_jax.tasks.requested import Requested, source_index

_COLOURS = np.random.default_rng(0).integers(40, 210, (64, 80, 3)).astype(np.uint8)
_LABELS = np.where(np.arange(80) < 40, CLASSES.index("road"), CLASSES.index("sky"))
_LABELS = np.broadcast_to(_LABELS, (64, 80)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Plain:
    """Two fixed sources, their mean, roles and labels."""

    labelled: bool = True
    num_images: int = dataclasses.field(default=1, init=False)

    def __call__(self, images: Sequence[np.ndarray], rng, crop) -> Example:
        del rng, crop
        (image,) = images
        other = np.full_like(image, 90)
        target = ((image.astype(int) + other) // 2).astype(np.uint8)
        labels = _LABELS if self.labelled else None
        return Example((image, other), "plain", target, ("visible", "infrared"), labels)


class Fixed(Requested):
    """Makes given requests."""

    requests: tuple[Request, ...] = ()

    def _draw_requests(self, plain, rng):
        del plain, rng
        return list(self.requests)


def _example(*requests: Request) -> Example:
    task = Fixed(Plain())
    object.__setattr__(task, "requests", requests)
    return task((_COLOURS,), np.random.default_rng(0), None)


_PLAIN = Plain()((_COLOURS,), None, None)


def test_without_a_request_the_example_is_the_plain_one():
    example = _example()
    assert example.prompt == "plain"
    np.testing.assert_array_equal(example.target, _PLAIN.target)


def test_a_tone_request_changes_the_target_as_its_operation_does():
    example = _example(Request("contrast", -2))
    np.testing.assert_array_equal(example.target, adjust(_PLAIN.target, "contrast", -2))
    for one, other in zip(example.sources, _PLAIN.sources, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_request_about_a_class_changes_nothing_elsewhere():
    example = _example(Request("brightness", 2, ("road",)))
    np.testing.assert_array_equal(example.target[:, 52:], _PLAIN.target[:, 52:])
    assert example.target[:, :30].mean() > _PLAIN.target[:, :30].mean() + 20
    assert "<LIGHT++> road." in example.prompt


def test_emphasis_moves_the_target_towards_the_source_with_the_role():
    for level, sign in ((2, 1), (-2, -1)):
        example = _example(Request("emphasis", level, role="infrared"))
        changes = np.abs(example.target.astype(int) - 90).mean()
        assert (np.abs(_PLAIN.target.astype(int) - 90).mean() - changes) * sign > 5


def test_repair_damages_the_source_and_keeps_the_target():
    example = _example(Request("repair", role="visible", defect="noisy"))
    np.testing.assert_array_equal(example.target, _PLAIN.target)
    np.testing.assert_array_equal(example.sources[1], _PLAIN.sources[1])
    assert (example.sources[0] != _PLAIN.sources[0]).mean() > 0.5


def test_marked_classes_are_marked_after_all_other_changes():
    task = Requested(Plain(), axes={"segment": 1.0, "brightness": 1.0})
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        requests = task._draw_requests(_PLAIN, rng)
        axes = [one.axis for one in requests]
        assert "segment" not in axes[:-1]
        seen += len(axes) > 1 and axes[-1] == "segment"
    assert seen > 5


def test_only_what_an_example_allows_is_requested():
    task = Requested(Plain(labelled=False))
    plain = Plain(labelled=False)((_COLOURS,), None, None)
    grey = dataclasses.replace(plain, sources=(plain.sources[1],) * 2)
    for seed in range(150):
        for request in task._draw_requests(grey, np.random.default_rng(seed)):
            assert request.axis != "segment"
            assert not request.classes
            assert request.defect != "cast"
            assert request.role in (None, "visible", "infrared", "first", "second")


def test_a_sentence_instead_of_tags_has_the_tags_of_a_plain_fusion():
    task = dataclasses.replace(make_task("requested_mff"), wording="sentences")
    prompts = {
        task((_COLOURS,), np.random.default_rng(seed), (64, 64)).prompt.split(" This is")[0]
        for seed in range(12)
    }
    assert prompts <= {"[FUSION].", "[FUSION]. <MULTI-FOCUS>."}


def test_a_role_may_be_a_place():
    assert source_index("infrared", ("visible", "infrared")) == 1
    assert source_index("first", ("visible", "infrared")) == 0


@pytest.mark.parametrize(
    "options", [{"wording": "poems"}, {"in_region": 2.0}, {"axes": {"glow": 1.0}}]
)
def test_bad_options_are_refused(options: dict):
    with pytest.raises(UserError):
        Requested(Plain(), **options)


@pytest.mark.parametrize("name", ["requested_streets", "streets"])
def test_streets_keep_labels_and_roles_of_every_kind_of_views(name: str):
    task = make_task(name)
    coded = np.repeat(_LABELS[..., None], 3, axis=2)
    kinds = set()
    for seed in range(40):
        example = task((_COLOURS, coded), np.random.default_rng(seed), (48, 64))
        assert example.labels is not None
        assert example.labels.shape == (48, 64)
        assert example.target.shape == (48, 64, 3)
        kinds.add(frozenset(example.roles))
    assert kinds == {
        frozenset(pair)
        for pair in ((), ("near", "far"), ("under", "over"), ("visible", "infrared"))
    }
