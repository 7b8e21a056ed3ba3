"""Damaged files are decoded or a `UserError` (longer runs: tests/images/fuzz.py)."""

import importlib.util
import random
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

SPEC: Any = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent / "fuzz.py")
fuzz = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz)

FILES = fuzz.corpus()


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_corpus_is_an_image_before_it_is_damaged(name):
    assert fuzz.check(FILES[name])


@hypothesis.settings(max_examples=500, deadline=None, database=None)
@hypothesis.given(st.sampled_from(sorted(FILES)), st.integers(0, 2**32))
def test_a_damaged_file_is_an_image_or_one_line(name, seed):
    fuzz.check(fuzz.damage(FILES[name], list(FILES.values()), random.Random(seed)))
