"""The contributing guide: its tables and the code agree."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from ditfuse_jax.registry import Registry

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def documented():
    """(module, registry) of each entry of the table of registries."""
    found = []
    for line in GUIDE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 3 or "`ditfuse_jax." not in cells[2]:
            continue
        modules, groups = cells[2].split(";"), cells[1].split(";")
        for module, names in zip(modules, groups, strict=True):
            found += [
                (module.strip(" `"), name) for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", names)
            ]
    return found


@pytest.mark.parametrize(("module", "name"), documented())
def test_each_documented_registry_can_be_imported(module, name):
    assert isinstance(getattr(importlib.import_module(module), name), Registry)


def test_each_registry_of_the_package_is_documented():
    defined = set()
    for path in (ROOT / "ditfuse_jax").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Registry":
                defined.add(ast.unparse(target))
    assert defined == {name for _, name in documented()}


def test_paths_of_files_in_the_guide_exist():
    named = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|md|toml|yaml))`", GUIDE)
    invented = {"tasks/darker.py"}
    assert len(named) > 20
    for name in set(named) - invented:
        assert (ROOT / name).is_file() or (ROOT / "ditfuse_jax" / name).is_file(), name
