"""What a comparison of students measures, and what it refuses."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ditfuse_jax.bench import students
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig


def model(loss: str = "", steps: int = 50, sample: dict | None = None) -> Any:
    config = {"distill": {"loss": loss, "sample": sample or {}}}
    return SimpleNamespace(config=config, sampling=SamplingConfig(steps=steps))


def test_the_teacher_is_asked_what_was_distilled():
    asked = {"guidance_scale": 3.0, "image_guidance_scale": 2.0, "steps": 8}
    made = {"b/run": model("guidance", 4, asked), "a/run": model("guidance", 2, asked)}
    rows = students.plan_rows(model(), made)
    guided = {"guidance_scale": 3.0, "image_guidance_scale": 2.0}
    assert rows[0][2] == guided
    assert [changes.get("steps") for _, _, changes in rows] == [None, 4, 4, 2, 2, None, None]
    assert [name for name, _, _ in rows[-2:]] == ["b/run", "a/run"]


def test_a_student_from_an_adapters_file_is_compared_with_the_teachers_own_guidance():
    rows = students.plan_rows(model(), {"run": model("student_trajectory", 4)})
    assert [changes for _, _, changes in rows[:2]] == [{}, {"steps": 4}]


def test_a_model_that_is_no_student_is_refused():
    with pytest.raises(UserError, match="runs/base is no student"):
        students.plan_rows(model(), {"runs/base": model()})


def test_tasks_must_be_known_and_fit_the_source():
    empty: dict = {"data": {"mixture": {}}}
    with pytest.raises(UserError, match="names no tasks, like that of a bundle"):
        students.examples_of(empty, "samples:heldout", (32, 32), 1)
    pairs = {"data": {"mixture": {"pairs": {"task": "ivif"}}}}
    with pytest.raises(UserError, match="no task of the teacher's recipe takes 1 image"):
        students.examples_of(pairs, "samples:heldout", (32, 32), 1)


def test_a_bundle_as_teacher_ends_with_one_line(monkeypatch, capsys):
    words = ("--teacher", "small", "--students", "small", "--source", "samples:heldout")
    monkeypatch.setattr(sys, "argv", ["students", *words])
    with pytest.raises(SystemExit) as ended:
        students.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
