"""Reading metrics, and going back to an earlier step without losing any."""

import json

import pytest

from ditfuse_jax.train.metrics_files import read_metrics, set_aside


def line(step, **scalars):
    return json.dumps({"step": step, **scalars}) + "\n"


@pytest.fixture(params=["one file", "parts"])
def metrics(request, tmp_path):
    """Writes five steps as one file or as three parts; returns the path of the one file."""
    path = tmp_path / "metrics.jsonl"
    if request.param == "one file":
        path.write_text("".join(line(step) for step in range(1, 6)))
    else:
        (tmp_path / "metrics").mkdir()
        for name, steps in (
            ("000001-000000", [1, 2]),
            ("000001-000001", [3, 4]),
            ("000002-000000", [5]),
        ):
            text = "".join(line(step) for step in steps)
            (tmp_path / "metrics" / f"{name}.jsonl").write_text(text)
    return path


def moved_after(path, step):
    moved = set_aside(path, step)
    assert moved is not None
    return moved


def steps(path):
    return [record["step"] for record in read_metrics(path)]


def test_both_forms_are_read_in_order(metrics):
    assert steps(metrics) == [1, 2, 3, 4, 5]


def test_later_steps_are_moved_to_a_file_beside_and_not_lost(metrics):
    moved = moved_after(metrics, 3)
    assert steps(metrics) == [1, 2, 3]
    assert (moved.records, moved.last, moved.damaged) == (2, 5, 0)
    assert moved.path == metrics.with_name("metrics_after_3.jsonl")
    assert steps(moved.path) == [4, 5]
    assert str(moved).startswith(
        "2 records of later steps, up to 5, were moved from the metrics to"
    )
    assert set_aside(metrics, 3) is None


def test_going_back_twice_to_a_step_keeps_both_copies(metrics):
    set_aside(metrics, 2)
    with metrics.open("a") as file:
        file.write(line(3, again=1))
    moved = moved_after(metrics, 2)
    assert moved.path.name == "metrics_after_2_2.jsonl"
    assert read_metrics(moved.path) == [{"step": 3, "again": 1}]
    assert steps(metrics.with_name("metrics_after_2.jsonl")) == [3, 4, 5]


def test_a_run_that_starts_over_keeps_everything_it_had(metrics):
    moved = moved_after(metrics, 0)
    assert steps(metrics) == []
    assert steps(moved.path) == [1, 2, 3, 4, 5]


def test_earlier_parts_are_not_even_read(tmp_path):
    (tmp_path / "metrics").mkdir()
    for number in range(4):
        path = tmp_path / "metrics" / f"000001-{number:06d}.jsonl"
        path.write_text(line(number) if number else "damaged\n")
    moved = moved_after(tmp_path / "metrics.jsonl", 2)
    assert (moved.records, moved.damaged) == (1, 0)


def test_damaged_lines_are_left_out_with_one_warning_and_moved_at_the_next_start(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    damage = ['{"step": 2, "lo{"step": 3}', "[1]", '{"loss": 1}', '{"step": "4"}', "\ufffd\0"]
    path.write_text(line(1) + "".join(f"{text}\n" for text in damage) + line(5) + '{"step": 6')
    assert steps(path) == steps(path) == [1, 5]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning == f"{path}: 5 damaged lines are left out, the first is line 2"
    moved = moved_after(path, 5)
    assert (moved.records, moved.damaged) == (0, 6)
    assert "6 damaged lines" in str(moved)
    assert path.read_text() == line(1) + line(5)
    assert moved.path.read_text().splitlines()[:1] == damage[:1]


def test_bytes_that_are_no_text_are_a_damaged_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(1).encode() + b"\xff\xfe\x00\n" + line(2).encode())
    assert steps(path) == [1, 2]


def test_a_run_without_metrics_has_none(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert set_aside(tmp_path / "metrics.jsonl", 0) is None
