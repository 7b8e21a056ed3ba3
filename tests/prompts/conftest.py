"""Fixtures of the tests of prompts."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def original() -> SimpleNamespace:
    """OmniGen's processing of prompts (`original.py`)."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("original.py"))))
