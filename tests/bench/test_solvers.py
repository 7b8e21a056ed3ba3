"""The comparison of solvers at equal numbers of evaluations."""

import numpy as np
import pytest

from ditfuse_jax.bench.solvers import SCORES, Row, read_pairs, steps_for, table
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image


@pytest.mark.parametrize(
    ("solver", "evaluations", "steps"),
    [("euler", 8, 8), ("heun", 8, 4), ("midpoint", 8, 4), ("midpoint", 1, 0), ("unipc", 1, 1)],
)
def test_a_solver_gets_the_most_steps_within_its_evaluations(solver, evaluations, steps):
    assert steps_for(solver, evaluations) == steps


def test_the_table_is_ordered_by_evaluations():
    scores = dict.fromkeys(SCORES, 0.5)
    rows = [Row("heun", 2, 3, 1.25, scores), Row("euler", 1, 1, 7.5, scores)]
    lines = table(rows).splitlines()
    assert lines[2] == "| 1 | euler | 1 | 7.50 | 0.500 | 0.500 | 0.500 |"
    assert lines[3].startswith("| 3 | heun | 2 | 1.25 |")


def test_pairs_of_equal_names_are_read_and_reduced(tmp_path):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        write_image(tmp_path / side / "one.png", np.zeros((40, 60, 3), np.uint8))
    folders = [tmp_path / "a", tmp_path / "b"]
    ((one, other),) = read_pairs(folders, 1, max_side=30)
    assert one.shape == other.shape == (20, 30, 3)
    with pytest.raises(UserError, match=r"have 1 pairs, 2 are asked$"):
        read_pairs(folders, 2, max_side=30)
