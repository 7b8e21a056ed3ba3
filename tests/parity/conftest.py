"""Fixtures of the parity tests, which need PyTorch, transformers and diffusers."""

import importlib.util
import runpy
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """OmniGen's forward pass, built from library modules (`reference.py`)."""
    for name in ("torch", "diffusers"):
        pytest.importorskip(name, reason=f"parity with PyTorch needs {name}")
    spec = importlib.util.spec_from_file_location("reference", HERE / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def original() -> SimpleNamespace:
    """OmniGen's processing of prompts (`prompts/original.py`)."""
    return SimpleNamespace(**runpy.run_path(str(HERE.parent / "prompts" / "original.py")))
